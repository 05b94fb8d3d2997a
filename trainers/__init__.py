"""Shards to weights: data mixing, losses, priors, loop, metrics."""
