"""Splits that never share a host, a video, a person or a family of copies, and one shuffled order for each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.components import equal, join

if TYPE_CHECKING:
    from numpy.typing import NDArray

# of all samples: how far a split may be off its share before it is said
_TOLERANCE = 0.03
# samples below which shares are a matter of luck
_FEWEST = 100


def assign_splits(
    keys: NDArray[np.bytes_], shared: Sequence[NDArray[np.generic]], splits: Mapping[str, float], seed: int
) -> tuple[NDArray[np.int64], int]:
    """The split of every sample. What shares a value in any column is one group and never parts.

    A group's split follows from the seed and the smallest key in it, so that it stays when other samples come or go; shares are
    met in expectation, and only roughly where one group is large.

    Args:
        keys: (N,) in order.
        shared: columns of N numbers or bytes; 0 or b"" is shared with nothing.
        splits: share of each split.
        seed: decides.

    Returns:
        (N,) index into `splits`, and the size of the largest group.
    """
    smallest = join(len(keys), (equal(column, b"" if column.dtype.kind == "S" else 0) for column in shared))
    leaders, group, sizes = np.unique(smallest, return_inverse=True, return_counts=True)
    fractions = _digests(seed, "split", keys[leaders])[:, 0] / 2.0**64
    edges = np.cumsum(list(splits.values()))
    chosen = np.minimum(np.searchsorted(edges, fractions, side="right"), len(splits) - 1)
    return chosen[group], int(sizes.max(initial=0))


def shuffled(keys: NDArray[np.bytes_], seed: int) -> NDArray[np.int64]:
    """Positions of the keys in an order that depends on nothing but the seed and the keys themselves."""
    digests = _digests(seed, "order", keys)
    return np.lexsort((digests[:, 1], digests[:, 0]))


def split_warnings(counts: Mapping[str, int], splits: Mapping[str, float], largest: int, group_by: str) -> list[str]:
    """What to say of splits that are off the share they were asked for by more than a few points.

    counts: samples of each split.  largest: samples of the largest group.
    """
    total = sum(counts.values())
    found: list[str] = []
    if total < _FEWEST:
        return [
            f"split {split} has none of the {total:,} samples, {share:.0%} was asked for: so few are shared out by luck; export"
            f" more, or leave it out: --splits.{split} 0, and its share to another split"
            for split, share in splits.items()
            if share and not counts[split]
        ]
    for split, share in splits.items():
        if abs(counts[split] / total - share) > _TOLERANCE:
            found.append(
                f"split {split} has {counts[split]:,} of {total:,} samples ({counts[split] / total:.0%}), {share:.0%} was asked "
                f"for: the largest group that must stay together has {largest:,}"
            )
    if found and group_by == "host":
        found[-1] += "; --group-by author or page parts the pictures of a platform"
    return found


def _digests(seed: int, what: str, keys: NDArray[np.bytes_]) -> NDArray[np.uint64]:
    """(N, 2) the first 16 bytes of a checksum of seed, purpose and key, as two numbers."""
    start = hashlib.sha256(f"{seed}:{what}:".encode())
    found = bytearray()
    for key in keys.tolist():
        digest = start.copy()
        digest.update(key)
        found += digest.digest()[:16]
    return np.frombuffer(found, ">u8").astype(np.uint64).reshape(-1, 2)
