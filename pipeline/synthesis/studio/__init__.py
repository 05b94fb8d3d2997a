"""Filmed scenes in Decaf's own layout."""
