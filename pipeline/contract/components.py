"""What belongs together: groups of rows that are joined by pairs, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pairs = tuple["NDArray[np.int64]", "NDArray[np.int64]"]  # (P,), (P,): row numbers


class Components:
    """Connected components of rows, joined batch by batch, so that there may be more pairs than memory.

    root: (N,) the smallest row each row is joined to, itself if there is none.
    """

    def __init__(self, count: int) -> None:
        self.root: NDArray[np.int64] = np.arange(count)

    def join(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        """Join rows pair by pair. left, right: (P,)."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        left, right = self.root[left], self.root[right]
        new = left != right
        if not new.any():
            return
        rows, edges = np.unique(np.stack([left[new], right[new]]), return_inverse=True)
        edges = edges.reshape(2, -1)
        graph = coo_array((np.ones(edges.shape[1], bool), tuple(edges)), (len(rows), len(rows)))
        groups, group = connected_components(graph, directed=False)
        smallest, joined = np.full(groups, len(self.root)), np.arange(len(self.root))
        np.minimum.at(smallest, group, rows)
        joined[rows] = smallest[group]
        self.root = joined[self.root]


def join(count: int, batches: Iterable[Pairs]) -> NDArray[np.int64]:
    """The smallest row each of `count` rows is joined to, itself if there is none. (count,)."""
    components = Components(count)
    for left, right in batches:
        components.join(left, right)
    return components.root


def equal(values: NDArray[Any], missing: Any = 0) -> Pairs:
    """Every row whose value an earlier row has too, and the first that has it: (first, row).

    values: (N,) numbers or bytes; `missing` equals nothing.
    """
    known = np.flatnonzero(values != missing)
    _, first, inverse = np.unique(values[known], return_index=True, return_inverse=True)
    earlier = known[first[inverse]]
    repeated = earlier != known
    return earlier[repeated], known[repeated]
