"""Weights: our checkpoint format, the released checkpoint's converter, ImageNet weights."""
