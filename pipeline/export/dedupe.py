"""Copies across units and runs: clusters of equal or near hashes, of which the smallest key stays.

The rule looks at hashes and keys only, so the answer is the same in whatever order, units or runs the samples were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from handface.pipeline.contract.components import Pairs, equal, join

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BITS = 64


class Hashed(NamedTuple):
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

    Raises as `families`.
    """
    rows = sorted(set(samples))
    keys, phashes, sums = zip(*rows, strict=True) if rows else ((), (), ())
    hashes = np.array([int(phash, 16) for phash in phashes], np.uint64)
    root = families(hashes, [keys, sums], max_distance)
    found = []
    for index in np.flatnonzero(root != np.arange(len(rows))):
        kept = root[index]
        if keys[kept] != keys[index]:
            found.append(Duplicate(keys[index], keys[kept], int(hashes[kept] ^ hashes[index]).bit_count()))
    return found


def families(hashes: NDArray[np.uint64], names: Sequence[Any], max_distance: int) -> NDArray[np.int64]:
    """The smallest row each row is a copy of, itself if it is none: near hashes, or an equal name, directly or through others.

    hashes: (N,).  names: columns of N texts (checksums, keys), None where there is none.  Returns (N,).
    Exact for the radius. Raises ValueError for one that leaves bands too short to be worth comparing.
    """
    if not 0 <= max_distance <= 11:
        raise ValueError(f"max_distance is {max_distance}; bands of a 64-bit hash allow 0 to 11")
    return join(len(hashes), chain(map(equal, names), _near(hashes, max_distance)))


def _near(hashes: NDArray[np.uint64], radius: int) -> Iterator[Pairs]:
    """Index pairs of hashes within the radius, some more than once. Flat images (hash 0) match nothing.

    Two hashes within the radius agree in at least two of radius + 2 bands (pigeonhole), so for every two bands only those that
    agree in both are compared: neighbours once sorted, each with the next, then the one after it, until none agrees that far.
    """
    values, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    repeated = np.flatnonzero((first[inverse] != np.arange(len(hashes))) & (hashes != 0))
    yield first[inverse[repeated]], repeated
    first, values = first[values != 0], values[values != 0]
    edges = np.linspace(0, _BITS, radius + 3).astype(int).tolist()
    bands = [np.uint64((1 << high) - (1 << low)) for low, high in pairwise(edges)]
    for one, other in combinations(bands, 2):
        order = np.argsort(values & (one | other))
        ordered = values[order]
        band = ordered & (one | other)
        left, step = np.arange(len(values)), 0
        while len(left):
            step += 1
            left = left[: np.searchsorted(left, len(values) - step)]
            left = left[band[left] == band[left + step]]
            close = left[np.bitwise_count(ordered[left] ^ ordered[left + step]) <= radius]
            yield first[order[close]], first[order[close + step]]
