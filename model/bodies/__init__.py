"""Parametric hand and head models behind one interface."""
