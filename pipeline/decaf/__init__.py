"""The Decaf dataset's own layout on disk: written, read, and turned into samples (docs/decaf.md)."""
