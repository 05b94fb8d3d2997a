"""Checks that a stored sample, a tar and a part are what they should be."""
