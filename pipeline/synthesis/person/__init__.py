"""What a person looks like: bodies, skin, hair, clothes, eyes."""
