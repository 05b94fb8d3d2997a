"""Rendered scenes of a hand at a face with exact labels. Start reading at `scene.py`."""
