"""Stages that only turn inputs away."""
