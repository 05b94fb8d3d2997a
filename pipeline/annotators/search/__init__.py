"""The default detector's searches: faces, then hands at them."""
