"""One row of numbers per sample: what metrics are sums of, so that batches, ranks and runs merge without loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Records:
    """N samples. keys: N sample keys.  columns: name -> (N,) numerators and denominators, 0 where they do not apply."""

    keys: tuple[str, ...] = ()
    columns: Mapping[str, Column] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.columns.items():
            if values.shape != (len(self.keys),):
                raise ValueError(f"column {name} has shape {values.shape}, expected ({len(self.keys)},)")

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def merge(cls, parts: Iterable[Records]) -> Records:
        """All rows, sorted by key and each key once: the same result whatever the number of ranks, or if some pad with repeats."""
        kept = [part for part in parts if len(part)]
        names = sorted({name for part in kept for name in part.columns})
        keys = [key for part in kept for key in part.keys]
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        order = np.array([first[key] for key in sorted(first)], np.int64)
        joined = {
            name: np.concatenate([part.columns.get(name, np.zeros(len(part))) for part in kept])[order]
            for name in names
        }
        return cls(tuple(sorted(first)), joined)

    def where(self, mask: NDArray[np.bool_]) -> Records:
        """The rows where `mask` (N,) holds."""
        keys = tuple(key for key, keep in zip(self.keys, mask, strict=True) if keep)
        return Records(keys, {name: values[mask] for name, values in self.columns.items()})

    def sums(self, weights: NDArray[np.floating] | None = None) -> dict[str, Column]:
        """Column -> (R,) sums, the rows counted as often as each row of `weights` (R, N) says; (1,) plain sums without."""
        if not self.columns:
            return {}
        table = np.stack(list(self.columns.values()), 1)  # (N, C)
        total = table.sum(0, keepdims=True) if weights is None else weights @ table
        return {name: total[:, index] for index, name in enumerate(self.columns)}


def gather(records: Records) -> Records:
    """The merged rows of all ranks, on every rank; of a single process, its own."""
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return Records.merge([records])
    parts: list[Records] = [Records()] * dist.get_world_size()
    dist.all_gather_object(parts, records)
    return Records.merge(parts)


def ids(labels: Sequence[str]) -> NDArray[np.int64]:
    """Names as whole numbers, equal ones alike, in sorted order. (N,)."""
    return np.unique(np.array(labels, dtype=object).astype(str), return_inverse=True)[1].astype(np.int64)
