"""What is on disk, and how it is read and written; imports nothing of the rest."""
