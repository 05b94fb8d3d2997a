"""A trained network made ready to run: folded, compiled, exported."""
