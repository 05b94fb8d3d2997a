"""How many of what, in words for people."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """As `1 sample`, `2,000 samples`, or with the plural given, `2 people`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
