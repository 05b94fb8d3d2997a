"""Off-the-shelf networks behind two small protocols (base.py)."""
