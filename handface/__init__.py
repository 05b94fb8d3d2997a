"""The public face of the project: lazy, thin."""
