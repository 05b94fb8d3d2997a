"""Copies across units and runs: clusters of equal or near hashes, of which the smallest key stays.

The rule looks at hashes and keys only, so the answer is the same in whatever order, units or runs the samples were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = 64
_PAIRS = 1 << 22  # pairs compared at once: 100 MB


@dataclass(frozen=True)
class Hashed:
    """What is known of a kept sample: its key, the perceptual hash and the sha256 of its original."""

    key: str
    phash: str
    sha256: str


@dataclass(frozen=True)
class Duplicate:
    """`dropped` is a copy of `kept`, directly or through others; distance: bits between the two themselves."""

    dropped: str
    kept: str
    distance: int


def find_duplicates(samples: Iterable[Hashed], max_distance: int = 6) -> list[Duplicate]:
    """Every sample that is a copy of one with a smaller key, in key order.

    Exact for the radius: hashes within `max_distance` bits agree fully in at least one of max_distance + 1 bands
    (pigeonhole), so only pairs that share a band are compared. Raises ValueError for a radius that leaves bands too short.
    """
    if not 0 <= max_distance <= 11:
        raise ValueError(f"max_distance is {max_distance}; bands of a 64-bit hash allow 0 to 11")
    rows = sorted({(s.key, s.phash, s.sha256) for s in samples})
    hashes = np.array([int(phash, 16) for _, phash, _ in rows], np.uint64)
    parent = np.arange(len(rows))
    for a, b in _same(np.array([sha for _, _, sha in rows])):
        _join(parent, a, b)
    for key_a, key_b in _same(np.array([key for key, _, _ in rows])):
        _join(parent, key_a, key_b)
    for left, right in _near(hashes, max_distance):
        for a, b in zip(left.tolist(), right.tolist(), strict=True):
            _join(parent, a, b)
    found = []
    for index in range(len(rows)):
        root = _find(parent, index)
        if root != index and rows[root][0] != rows[index][0]:
            bits = int(hashes[root] ^ hashes[index]).bit_count()
            found.append(Duplicate(rows[index][0], rows[root][0], bits))
    return found


def _near(hashes: NDArray[np.uint64], radius: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Index pairs of hashes within the radius, some more than once. Flat images (hash 0) match nothing."""
    usable = np.flatnonzero(hashes != 0)
    edges = np.linspace(0, _BITS, radius + 2).astype(int)
    for low, high in pairwise(edges):
        mask = np.uint64(((1 << int(high - low)) - 1) << int(low))
        band = hashes[usable] & mask
        order = np.argsort(band, kind="stable")
        ordered = usable[order]
        starts = np.flatnonzero(np.r_[True, np.diff(band[order]) != 0, True])
        for group in np.split(ordered, starts[1:-1]) if len(ordered) else ():
            # A stock photo's family can be thousands: compare blockwise, and equal hashes only with their first.
            if len(group) > 1:
                yield from _close_pairs(hashes, group, radius)


def _close_pairs(
    hashes: NDArray[np.uint64], group: NDArray[np.int64], radius: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    values, first, inverse = np.unique(hashes[group], return_index=True, return_inverse=True)
    repeated = group != group[first[inverse]]
    yield group[repeated], group[first[inverse]][repeated]
    heads = group[first]
    block = max(1, _PAIRS // max(1, len(heads)))
    for start in range(0, len(heads), block):
        bits = np.bitwise_count(values[start : start + block, None] ^ values[None, :])
        left, right = np.nonzero(bits <= radius)
        left += start
        yield heads[left[left < right]], heads[right[left < right]]


def _same(values: NDArray[np.str_]) -> Iterator[tuple[int, int]]:
    """Index pairs (first, other) of equal values."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    for index in np.flatnonzero(first[inverse] != np.arange(len(values))):
        yield int(first[inverse[index]]), int(index)


def _find(parent: NDArray[np.int64], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = int(parent[index])
    return index


def _join(parent: NDArray[np.int64], a: int, b: int) -> None:
    """Union by the smaller index, which is the smaller key: the root of a cluster is the sample that stays."""
    a, b = _find(parent, a), _find(parent, b)
    parent[max(a, b)] = min(a, b)
