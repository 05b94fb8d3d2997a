"""`srcset` by the algorithm of the HTML standard (4.8.4.3.10): a URL ends at white space, a comma ends a candidate."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

_MAX = 20_000  # characters read
_GAP = re.compile(r"[\s,]*+")
_URL = re.compile(r"\S*+")
# Descriptors up to the next comma that is not in parentheses.
_DESCRIPTORS = re.compile(r"(?:[^(),]|\([^)]*+\)?|\))*+")
_NUMBER = re.compile(r"-?(?:\d+|\d*\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def srcset_best(value: str) -> str | None:
    """The URL of the widest candidate, or the densest where no width is given; None if there is no usable one."""
    best: tuple[float, float] | None = None
    url = None
    for candidate, width, density in srcset_candidates(value):
        if best is None or (width, density) > best:
            best, url = (width, density), candidate
    return url


def srcset_candidates(value: str) -> Iterator[tuple[str, float, float]]:
    """(URL, width in pixels or 0, density) of each usable candidate, in order."""
    value, at = value[:_MAX], 0
    while (at := _end(_GAP, value, at)) < len(value):
        start, at = at, _end(_URL, value, at)
        url, descriptors = value[start:at], ""
        if url.endswith(","):
            url = url.rstrip(",")
        else:
            start, at = at, _end(_DESCRIPTORS, value, at)
            descriptors = value[start:at]
        size = _size(descriptors)
        if url and size is not None:
            yield url, *size


def _size(descriptors: str) -> tuple[float, float] | None:
    """(width, density) of a candidate's descriptors; None if they are invalid, which drops the candidate."""
    width, density = 0.0, 1.0
    for word in descriptors.split():
        if not _NUMBER.fullmatch(word[:-1]):
            return None
        number = float(word[:-1])
        if not math.isfinite(number) or number < 0:
            return None
        if word[-1] == "w" and number >= 1:
            width = number
        elif word[-1] == "x":
            density = number
        elif word[-1] != "h":
            return None
    return width, density


def _end(pattern: re.Pattern[str], value: str, at: int) -> int:
    """Where a pattern that may be empty ends."""
    match = pattern.match(value, at)
    return match.end() if match else at
