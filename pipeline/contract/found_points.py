"""What the detector finds in the pictures of shards whose labels are the truth: a parquet list beside them.

A network that looks at points is trained with those that it will be given, not with true ones. Columns: `key` of the sample, and
`points`, 89 x 3 numbers: face, then hand points of the labelled person, x, y in pixels of the stored picture, and confidence.
A sample in which the detector does not find that person is not in the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.names.addresses import open_file
from handface.pipeline.contract.sample import DEPTH_POINTS
from handface.pipeline.contract.tables import dump_table, load_table

_NUMBERS = DEPTH_POINTS * 3


class FoundPointsError(ValueError):
    """The file is no list of found points; the message names it and says what it should hold."""


@dataclass(frozen=True)
class FoundPoints:
    """keys: (N,) in ascending order.  points: (N, 89, 3)."""

    keys: NDArray[np.str_]
    points: NDArray[np.float32]

    @classmethod
    def read(cls, uris: Sequence[str]) -> FoundPoints:
        """Read lists by path or fsspec URI. Raises FileNotFoundError, or FoundPointsError for another file or different points of one key."""
        import pyarrow as pa

        keys, points = [np.zeros(0, np.str_)], [np.zeros((0, DEPTH_POINTS, 3), np.float32)]
        for uri in uris:
            with open_file(uri) as stream:
                data = stream.read()
            try:
                table = load_table(data, ["key", "points"])
                found = np.array(table["points"].to_pylist(), np.float32).reshape(len(table), DEPTH_POINTS, 3)
            except (KeyError, ValueError, OSError, pa.ArrowInvalid) as error:
                raise FoundPointsError(
                    f"{uri}: no list of found points ({error}); `handface weights points SHARDS` writes one, with a column key and"
                    f" one of {_NUMBERS} numbers, points"
                ) from error
            keys.append(np.array(table["key"].to_pylist(), np.str_))
            points.append(found)
        named, rows = np.concatenate(keys), np.concatenate(points)
        names, first, which = np.unique(named, return_index=True, return_inverse=True)
        differ = (rows != rows[first][which]).any((1, 2))
        if differ.any():
            raise FoundPointsError(f"{', '.join(uris)}: the lists tell different points of {named[differ][0]}")
        return cls(names, rows[first])

    def __len__(self) -> int:
        return len(self.keys)

    def of(self, key: str) -> NDArray[np.float32] | None:
        """(89, 3) of a sample, or None."""
        row = int(np.searchsorted(self.keys, key))
        return self.points[row] if row < len(self.keys) and self.keys[row] == key else None


def dump_points(found: Mapping[str, NDArray[np.float32]]) -> bytes:
    """{key: (89, 3)} as a parquet file."""
    import pyarrow as pa

    keys = sorted(found)
    flat = np.concatenate([found[key].astype(np.float32).ravel() for key in keys] or [np.zeros(0, np.float32)])
    points = pa.FixedSizeListArray.from_arrays(pa.array(flat), _NUMBERS)
    return dump_table(pa.table({"key": pa.array(keys, pa.string()), "points": points}))
