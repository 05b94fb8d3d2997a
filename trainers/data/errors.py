"""What goes wrong with data in a way that a person has to look at."""

from __future__ import annotations


class DataError(ValueError):
    """Data cannot be trained on as configured; the message names the data set, shard or sample and what to do."""
