"""Which samples are published: everything that must or should not be is dropped here, with a reason per sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.exclusion import ORIGINAL_SHA256, RADIUS, Exclusion
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import load_table
from handface.pipeline.export.catalogue import Catalogue, ExportError
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.dedupe import families
from handface.pipeline.export.query import parse_query

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_FAMILY_RADIUS = 6  # bits, where copies are kept


@dataclass(frozen=True)
class Dropped:
    """A sample that is not published. because: the sample, file or test set that decided."""

    key: str
    reason: str
    because: str


@dataclass(frozen=True)
class Selection:
    """What is published. rows: in key order, with `family`, the key of the copies' family each belongs to."""

    rows: pa.Table
    dropped: tuple[Dropped, ...]


def select(catalogue: Catalogue, config: ExportConfig) -> Selection:
    """Apply the subset, the exclusion lists, the contamination gate and the search for copies, in this order.

    Raises QueryError for a bad subset, ExportError for a list that cannot be used and if nothing is left.
    """
    import pyarrow as pa

    rows = catalogue.rows.sort_by([("key", "ascending"), ("uri", "ascending")])
    dropped: list[Dropped] = []
    keys = rows["key"].to_pylist()
    repeated = np.array([False, *(a == b for a, b in pairwise(keys))], bool)[: len(keys)]
    rows = _drop(rows, repeated, "repeated", "the same crop in another part", dropped)
    if config.subset:
        chosen = set(rows.filter(parse_query(config.subset, rows.schema))["key"].to_pylist())
        outside = np.array([key not in chosen for key in rows["key"].to_pylist()], bool)
        rows = _drop(rows, outside, "subset", config.subset, dropped)
    for uri in config.exclude:
        rows = _drop(rows, excluded_rows(rows, uri), "excluded", uri, dropped)
    for name, uri in config.test_sets.items():
        near = near_any(_hashes(rows), test_hashes(uri), max(config.dedupe_distance, 0))
        rows = _drop(rows, near, "in_test_set", name, dropped)
    rows, copies = _families(rows, config.dedupe_distance)
    if not len(rows):
        raise ExportError("nothing is left to export; loosen --subset, --exclude or --test-sets")
    assert isinstance(rows, pa.Table)
    return Selection(rows, (*dropped, *copies))


def _drop(rows: pa.Table, out: NDArray[np.bool_], reason: str, because: str, dropped: list[Dropped]) -> pa.Table:
    keys = rows["key"].to_pylist()
    dropped += [Dropped(keys[index], reason, because) for index in np.flatnonzero(out)]
    return rows.filter(~out)


def excluded_rows(rows: pa.Table, uri: str) -> NDArray[np.bool_]:
    """Which rows a list excludes (`pipeline/contract/exclusion.py`)."""
    listed = Exclusion.read(uri)
    named = [
        (rows["key"], listed.keys),
        (rows["sha256"], listed.sha256),
        (rows[ORIGINAL_SHA256], listed.sha256),
        (rows["uri"], listed.uris),
    ]
    out = near_any(_hashes(rows), listed.phash, RADIUS)
    for column, values in named:
        out |= np.array([value in values for value in column.to_pylist()], bool)
    return out


def test_hashes(uri: str) -> NDArray[np.uint64]:
    """Perceptual hashes of a test set: a parquet file with a column `phash`, or a folder of parts."""
    if uri.endswith(".parquet"):
        table = _read_table(uri)
        if "phash" not in table.column_names:
            raise ExportError(f"{uri}: has no column phash")
        return np.array([int(value, 16) for value in table["phash"].to_pylist() if value], np.uint64)
    from handface.pipeline.export.catalogue import read_catalogue

    return _hashes(read_catalogue([uri]).rows)


def near_any(hashes: NDArray[np.uint64], others: NDArray[np.uint64], radius: int) -> NDArray[np.bool_]:
    """Which hashes lie within `radius` bits of one of the others; 0, a flat picture's, lies near nothing. (N,), (M,) -> (N,)."""
    out = np.zeros(len(hashes), bool)
    for other in np.unique(others[others != 0]):
        out |= np.bitwise_count(hashes ^ other) <= radius
    return out & (hashes != 0)


def _families(rows: pa.Table, radius: int) -> tuple[pa.Table, Iterable[Dropped]]:
    """Drop copies if asked to; `family` also joins what is kept, so that copies never part between splits."""
    root = families(_hashes(rows), [rows["sha256"]], radius if radius >= 0 else _FAMILY_RADIUS)
    rows = rows.append_column("family", rows["key"].take(root))
    if radius < 0:
        return rows, ()
    copy = root != np.arange(len(rows))
    copies = zip(*(rows[name].filter(copy).to_pylist() for name in ("key", "family")), strict=True)
    return rows.filter(~copy), (Dropped(key, "copy", kept) for key, kept in copies)


def _hashes(rows: pa.Table) -> NDArray[np.uint64]:
    return np.array([int(value or "0", 16) for value in rows["phash"].to_pylist()], np.uint64)


def _read_table(uri: str) -> pa.Table:
    import pyarrow as pa

    folder, _, name = uri.rpartition("/")
    try:
        return load_table(Folder(folder or ".").read(name))
    except (OSError, pa.ArrowInvalid) as error:
        raise ExportError(f"{uri}: not a readable parquet file ({error})") from error
