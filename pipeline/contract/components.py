"""What belongs together: groups of rows that are joined by pairs, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Pairs = tuple["NDArray[np.int64]", "NDArray[np.int64]"]  # (P,), (P,): row numbers


def join(count: int, batches: Iterable[Pairs]) -> NDArray[np.int64]:
    """The smallest row each of `count` rows is joined to, itself if there is none. (count,).

    Batches are taken one by one and never held together, so that there may be more pairs than memory.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    root = np.arange(count)
    for left, right in batches:
        left, right = root[left], root[right]
        new = left != right
        if new.any():
            rows, edges = np.unique(np.stack([left[new], right[new]]), return_inverse=True)
            graph = coo_array((np.ones(edges.shape[1], bool), tuple(edges)), (len(rows), len(rows)))
            groups, group = connected_components(graph, directed=False)
            smallest, joined = np.full(groups, count), np.arange(count)
            np.minimum.at(smallest, group, rows)
            joined[rows] = smallest[group]
            root = joined[root]
    return root


def equal(values: Any) -> Pairs:
    """Every row whose text an earlier row has too, and the first that has it: (first, row). None and "" equal nothing.

    values: list or arrow column of texts.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else pa.array(values, pa.string())
    texts = pc.replace_with_mask(texts, pc.equal(texts, "").fill_null(False), pa.scalar(None, pa.string()))
    encoded = texts.dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.flatnonzero(codes >= 0)
    first = np.full(len(encoded.dictionary), len(codes))
    np.minimum.at(first, codes[rows], rows)
    repeated = rows[first[codes[rows]] != rows]
    return first[codes[repeated]], repeated
