"""Splits that never share a host, a video, a person or a family of copies, and one shuffled order for each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from handface.pipeline.contract.components import equal, join

if TYPE_CHECKING:
    import pyarrow as pa


def assign_splits(rows: pa.Table, splits: Mapping[str, float], seed: int, identity_column: str) -> list[str]:
    """The split of every row; rows are in key order. What shares a host, a file that holds many (video, tar), an identity or a family is one group.

    A group's split follows from the seed and the smallest key in it, so that it stays when other samples come or go; shares are
    met in expectation, and only roughly where one host is large.
    """
    keys = rows["key"].to_pylist()
    shared = [rows["host"], rows["family"], _containers(rows), _identities(rows, identity_column)]
    smallest = join(len(keys), map(equal, shared)).tolist()
    chosen = {row: _choose(_fraction(seed, "split", keys[row]), splits) for row in set(smallest)}
    return [chosen[row] for row in smallest]


def shuffled(keys: Sequence[str], seed: int) -> list[int]:
    """Positions of the keys in an order that depends on nothing but the seed and the keys themselves."""
    return sorted(range(len(keys)), key=lambda index: _digest(seed, "order", keys[index]))


def _containers(rows: pa.Table) -> list[str | None]:
    """The video each frame is of; members of a tar are separate pictures."""
    uris, members = rows["uri"].to_pylist(), rows["member"].to_pylist()
    return [uri if member and member.startswith("t=") else None for uri, member in zip(uris, members, strict=True)]


def _identities(rows: pa.Table, column: str) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.map_lookup(rows["columns"], column, "last")


def _digest(seed: int, what: str, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{what}:{key}".encode()).digest()


def _fraction(seed: int, what: str, key: str) -> float:
    """Uniform in [0, 1)."""
    return int.from_bytes(_digest(seed, what, key)[:8], "big") / 2**64


def _choose(fraction: float, splits: Mapping[str, float]) -> str:
    total = 0.0
    for name, share in splits.items():
        total += share
        if fraction < total:
            return name
    return list(splits)[-1]  # rounding
