"""Copies across units and runs: clusters of equal or near hashes, of which the smallest key stays.

The rule looks at hashes and keys only, so the answer is the same in whatever order, units or runs the samples were made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from handface.pipeline.contract.components import Components, Pairs, equal
from handface.pipeline.contract.images.phash import parse_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = 64
# neighbours that every row of a bucket is compared with before the bucket's joined rows are looked at
_FIRST_STEPS = 16
_NO_ROWS = np.zeros(0, np.int64)


class Hashed(NamedTuple):
    """What is known of a kept sample. phash: 16 hex digits; None or "" where there is none.  sha256: of its original, or None."""

    key: str
    phash: str | None
    sha256: str | None


@dataclass(frozen=True)
class Duplicate:
    """`dropped` is a copy of `kept`, directly or through others.

    distance: bits between the hashes of the two themselves; None where one of them has none.
    """

    dropped: str
    kept: str
    distance: int | None


def find_duplicates(samples: Iterable[Hashed], max_distance: int = 6) -> list[Duplicate]:
    """Every sample that is a copy of one with a smaller key, in key order. Samples are taken one by one and held as numbers.

    Raises as `connected_components`.
    """
    keys, hashes, sums = _as_numbers(samples)
    order = np.lexsort((sums, hashes, keys))
    keys, hashes, sums = keys[order], hashes[order], sums[order]
    root = connected_components(hashes, [keys, sums], max_distance)
    found = []
    for index in np.flatnonzero(root != np.arange(len(keys))):
        kept = root[index]
        if keys[kept] != keys[index]:
            known = hashes[kept] and hashes[index]
            bits = int(np.bitwise_count(hashes[kept] ^ hashes[index])) if known else None
            found.append(Duplicate(keys[index].decode(), keys[kept].decode(), bits))
    return found


def _as_numbers(samples: Iterable[Hashed]) -> tuple[NDArray[np.bytes_], NDArray[np.uint64], NDArray[np.bytes_]]:
    keys, hashes, sums = bytearray(), bytearray(), bytearray()
    for key, phash, sha256 in samples:
        keys += key.encode().ljust(16, b"\0")[:16]
        hashes += (parse_hash(phash) if phash else 0).to_bytes(8, "little")
        sums += short_digest(sha256)
    return np.frombuffer(keys, "S16"), np.frombuffer(hashes, np.uint64), np.frombuffer(sums, "S16")


def short_digest(text: str | None) -> bytes:
    """16 bytes that stand for a checksum, zeros for none."""
    if not text:
        return bytes(16)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    # numpy cuts zero bytes off the end of a text
    return digest if digest[15] else digest[:15] + b"\1"


def connected_components(
    hashes: NDArray[np.uint64], names: Sequence[NDArray[np.bytes_]], max_distance: int
) -> NDArray[np.int64]:
    """The smallest row each row is a copy of, itself if it is none: near hashes, or an equal name, directly or through others.

    Args:
        hashes: (N,) perceptual hashes; 0, a flat picture's or none, matches nothing.
        names: columns of N checksums or keys, b"" where there is none.
        max_distance: bits; the answer is exact for it.

    Returns:
        (N,) row numbers.

    Raises:
        ValueError: a distance that leaves bands too short to be worth comparing.
    """
    if not 0 <= max_distance <= 11:
        raise ValueError(f"max_distance is {max_distance}; bands of a 64-bit hash allow 0 to 11")
    components = Components(len(hashes))
    for column in names:
        components.join(*equal(column, b""))
    _join_near(components, hashes, max_distance)
    return components.root


def _join_near(components: Components, hashes: NDArray[np.uint64], radius: int) -> None:
    """Join hashes within the radius.

    Two of them agree in at least two of radius + 2 bands (pigeonhole), so for every two bands only hashes that agree in both, a
    bucket, are compared: each with its next few neighbours first, then, in buckets that are larger, with what it is not yet
    joined to. In a family of many near copies that leaves little to compare.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    fresh = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    first = np.maximum.accumulate(np.where(fresh, np.arange(len(ordered)), 0))
    repeated = ~fresh & (ordered != 0)
    components.join(order[first[repeated]], order[repeated])
    rows = order[fresh & (ordered != 0)]
    values = hashes[rows]
    edges = np.linspace(0, _BITS, radius + 3).astype(int).tolist()
    bands = [np.uint64((1 << high) - (1 << low)) for low, high in pairwise(edges)]
    for one, other in combinations(bands, 2):
        banded = values & (one | other)
        places = np.argsort(banded)
        components.join(*_collect(_neighbours(values, rows, places, banded[places], radius)))
        if len(large := _large_buckets(banded[places])):
            for pairs in _unjoined(values, rows, places[large], banded[places[large]], components.root, radius):
                components.join(*pairs)


def _collect(batches: Iterator[Pairs]) -> Pairs:
    pairs = list(batches)
    if not pairs:
        return _NO_ROWS, _NO_ROWS
    left, right = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return left, right


def _neighbours(
    values: NDArray[np.uint64],
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    banded: NDArray[np.uint64],
    radius: int,
) -> Iterator[Pairs]:
    """Near pairs among the first few steps of each bucket. places: into values and rows, by bucket; banded: their bands."""
    ordered, left = values[places], np.arange(len(places))
    for step in range(1, _FIRST_STEPS + 1):
        left = left[: np.searchsorted(left, len(places) - step)]
        left = left[banded[left] == banded[left + step]]
        if not len(left):
            return
        close = left[np.bitwise_count(ordered[left] ^ ordered[left + step]) <= radius]
        yield rows[places[close]], rows[places[close + step]]


def _large_buckets(banded: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Positions that lie in buckets with more rows than the first steps compare with each other."""
    starts = np.flatnonzero(np.append(True, banded[1:] != banded[:-1])[: len(banded)])
    sizes = np.diff(np.append(starts, len(banded)))
    return np.flatnonzero(np.repeat(sizes > _FIRST_STEPS + 1, sizes))


def _unjoined(
    values: NDArray[np.uint64],
    rows: NDArray[np.int64],
    places: NDArray[np.int64],
    banded: NDArray[np.uint64],
    root: NDArray[np.int64],
    radius: int,
) -> Iterator[Pairs]:
    """Near pairs of the buckets' rows that are not joined yet.

    Within a bucket, joined rows stand side by side, largest group first: each row is compared from the end of its group on.
    """
    group = root[rows[places]]
    order = np.lexsort((group, banded))
    size = np.diff(np.flatnonzero(np.append(_changes(banded[order], group[order]), True)))
    size = np.repeat(size, size)
    order = order[np.lexsort((group[order], -size, banded[order]))]
    places, banded, group = places[order], banded[order], group[order]
    ordered = values[places]
    positions = np.arange(len(places))
    other = _next_start(_changes(banded, group))
    end = _next_start(_changes(banded))
    left = positions[other < end]
    while len(left):
        right = other[left]
        close = np.bitwise_count(ordered[left] ^ ordered[right]) <= radius
        yield rows[places[left[close]]], rows[places[right[close]]]
        other[left] += 1
        left = left[other[left] < end[left]]


def _changes(*columns: NDArray[np.generic]) -> NDArray[np.bool_]:
    """(N,) whether a row differs from the one before it in any column; True for the first."""
    changed = np.zeros(len(columns[0]), bool)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed


def _next_start(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(N,) where the run after each row's own begins."""
    begins = np.append(np.flatnonzero(starts), len(starts))
    return np.repeat(begins[1:], np.diff(begins))
