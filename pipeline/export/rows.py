"""All kept samples as one table of numbers: what selection, splits and copying need, about 100 bytes a sample.

Texts stay in the parts' tables, which are read again, part by part, when the index is written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.contract.exclusion import ORIGINAL_SHA256, Exclusion
from handface.pipeline.contract.images.phash import parse_hash
from handface.pipeline.contract.names.url_names import picture_names
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.dedupe import short_digest
from handface.pipeline.export.public import local_rows
from handface.pipeline.export.query import parse_query

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from handface.pipeline.export.catalogue import Catalogue

ROW = np.dtype(
    [
        ("key", "S16"),
        # number of the part, and of the row among its kept samples
        ("part", "i4"),
        ("row", "i4"),
        # where the sample lies in the part's tar
        ("offset", "i8"),
        ("size", "i8"),
        ("phash", "u8"),
        ("sha256", "S16"),
        # what must not part between splits: hashes of texts, 0 where there is none
        ("group", "u8"),
        ("container", "u8"),
        ("identity", "u8"),
        ("in_subset", "?"),
        # bit n: named by exclusion list n
        ("listed", "u8"),
        # its JSON holds a path of this machine
        ("local", "?"),
    ]
)
# of the parts' tables, besides those that are always read
_COLUMNS = ("member", "phash", "page")


def read_rows(catalogue: Catalogue, config: ExportConfig, lists: Sequence[Exclusion]) -> NDArray[np.void]:
    """The rows of every part, in the parts' order. Raises QueryError for a bad subset, ExportError for a damaged part."""
    rows = np.zeros(catalogue.samples, ROW)
    columns = [*_COLUMNS, *(["evidence"] if lists else []), *({"author"} & {config.group_by})]
    start = 0
    for found in catalogue.map(
        lambda number, table: _part_rows(number, table, config, lists), None if config.subset else columns
    ):
        rows[start : start + len(found)] = found
        start += len(found)
    return rows[:start]


def _part_rows(number: int, table: pa.Table, config: ExportConfig, lists: Sequence[Exclusion]) -> NDArray[np.void]:
    rows = np.zeros(len(table), ROW)
    rows["part"], rows["row"] = number, np.arange(len(table))
    for name in ("key", "offset", "size"):
        rows[name] = table[name].to_pylist()
    rows["phash"] = perceptual_hashes(table)
    rows["sha256"] = [short_digest(value) for value in _texts(table, "sha256")]
    uris, members = _texts(table, "uri"), _texts(table, "member")
    rows["group"] = [_number(value) for value in _groups(table, config.group_by)]
    rows["container"] = [
        _number(uri if member.startswith("t=") else "") for uri, member in zip(uris, members, strict=True)
    ]
    rows["identity"] = [_number(value) for value in map_values(table, config.identity_column)]
    rows["in_subset"] = _inside(table, config.subset)
    rows["listed"] = _listed(table, lists)
    rows["local"] = local_rows(table).to_numpy(zero_copy_only=False)
    return rows


def perceptual_hashes(table: pa.Table) -> NDArray[np.uint64]:
    """The column `phash` as (N,) numbers, 0 where there is none. Raises ValueError for what is no hash."""
    return np.array([parse_hash(value) if value else 0 for value in table["phash"].to_pylist()], np.uint64)


def map_values(table: pa.Table, key: str) -> list[str]:
    """A value of the input list's own columns for each row, "" where there is none."""
    import pyarrow.compute as pc

    return [value or "" for value in pc.map_lookup(table["columns"], key, "last").to_pylist()]


def _texts(table: pa.Table, name: str) -> list[str]:
    return [value or "" for value in table[name].to_pylist()]


def _groups(table: pa.Table, column: str) -> list[str]:
    """What keeps samples in one split: a column of the table or of the input list, else the host."""
    hosts = _texts(table, "host")
    if column == "host":
        return hosts
    values = _texts(table, column) if column in ("author", "page") else map_values(table, column)
    return [f"{column}:{value}" if value else host for value, host in zip(values, hosts, strict=True)]


def _number(text: str) -> int:
    """A text as a number that is 0 for none alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") | 1 if text else 0


def _inside(table: pa.Table, subset: str) -> NDArray[np.bool_]:
    inside = np.ones(len(table), bool)
    if subset:
        numbered = table.append_column("_row", [np.arange(len(table))])
        inside[:] = False
        inside[numbered.filter(parse_query(subset, table.schema))["_row"].to_numpy()] = True
    return inside


def _listed(table: pa.Table, lists: Sequence[Exclusion]) -> NDArray[np.uint64]:
    """Which lists name each row by key, checksum or address."""
    listed = np.zeros(len(table), np.uint64)
    if not lists:
        return listed
    names = (row_names(row) for row in table.select(["uri", "columns", "evidence"]).to_pylist())
    known = [_texts(table, name) for name in ("key", "sha256", ORIGINAL_SHA256, "uri")]
    for index, (key, sha256, original, uri, also) in enumerate(zip(*known, names, strict=True)):
        for number, one in enumerate(lists):
            if one.names(uri, {sha256, original}, 0, key, also):
                listed[index] |= np.uint64(1 << number)
    return listed


def row_names(row: dict[str, Any]) -> frozenset[str]:
    """Every name the picture of a table's row goes by; needs uri, columns, evidence."""
    return picture_names(row["uri"] or "", dict(row["columns"] or ()), dict(row["evidence"] or ()))
