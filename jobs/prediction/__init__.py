"""What `handface predict` does with its photos and videos, and its summary."""
