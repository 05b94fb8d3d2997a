"""All kept samples of finished parts as one table: what is known of each, and where its bytes lie."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from handface.pipeline.contract.exclusion import ORIGINAL_SHA256
from handface.pipeline.contract.parts import Part, read_parts
from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.extents import sample_extents

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from handface.pipeline.export.extents import Read


_READERS = 8  # parts' tables read at once: what is elsewhere is waited for


class ExportError(ValueError):
    """The release cannot be made; the message names the part or file and says what to do."""


@dataclass(frozen=True)
class Catalogue:
    """Kept samples of all parts.

    rows: the parts' columns plus `original_sha256`, `host`, `part` (index into `tars`), `offset` and `size` of the sample in its tar.
    tars: folder and name of each part's tar.  inputs: rows before rejection.  funnel: {stage: {reason: count}}.
    """

    rows: pa.Table
    tars: tuple[tuple[Folder, str], ...]
    inputs: int
    funnel: dict[str, dict[str, int]]


def read_catalogue(folders: Sequence[str]) -> Catalogue:
    """Read every finished part of some folders. A key that is in two parts is listed twice.

    Tars are not opened: what lies where is in the parts' tables. Raises ExportError if there are no parts.
    """
    import pyarrow as pa

    parts: list[Part] = []
    for folder in folders:
        found = list(read_parts(folder))
        if not found:
            raise ExportError(f"{folder}: no finished parts there; give a folder that `handface annotate` wrote")
        parts += found
    with ThreadPoolExecutor(_READERS) as pool:
        rows = pa.concat_tables(pool.map(_part_rows, parts, range(len(parts))))
    tars = tuple((part.folder, part.uri("tar").rpartition("/")[2]) for part in parts)
    funnel: dict[str, Counter[str]] = {}
    for part in parts:
        for stage, reasons in part.manifest.rejected.items():
            funnel.setdefault(stage, Counter()).update(reasons)
    inputs = sum(part.manifest.inputs for part in parts)
    return Catalogue(rows, tars, inputs, {stage: dict(reasons) for stage, reasons in funnel.items()})


def _part_rows(part: Part, index: int) -> pa.Table:
    import pyarrow as pa

    rows = part.rows()
    rows = rows.filter(rows["kept"]).drop_columns(["kept", "reason", "detail", "stage"])
    if "offset" not in rows.column_names:
        rows = _with_places(rows, part)
    columns = {
        "original_sha256": _original_sha256(rows),
        "host": pa.array([host_of(uri) for uri in rows["uri"].to_pylist()], pa.string()),
        "part": pa.array(np.full(len(rows), index, np.int32)),
        "offset": rows["offset"],
        "size": rows["size"],
    }
    rows = rows.drop_columns(["offset", "size"])
    for column, values in columns.items():
        rows = rows.append_column(column, values)
    return rows


def _with_places(rows: pa.Table, part: Part) -> pa.Table:
    """For parts whose tables do not say where samples lie, as they did at first: the tar's headers do."""
    import pyarrow as pa

    name = part.uri("tar")
    tar = name.rpartition("/")[2]
    with reader(part.folder, tar) as read:
        extents = list(sample_extents(name, part.manifest.files[tar].bytes, read))
    if [extent.key for extent in extents] != rows["key"].to_pylist():
        raise ExportError(f"{name}: holds other samples than its table; remove the part's .json and run its job again")
    rows = rows.append_column("offset", pa.array([extent.start for extent in extents], pa.int64()))
    return rows.append_column("size", pa.array([extent.size for extent in extents], pa.int64()))


def _original_sha256(rows: pa.Table) -> pa.Array:
    """Of the file as its owner has it: the crawler takes metadata out or re-encodes, and notes the checksum from before."""
    import pyarrow.compute as pc

    noted = pc.map_lookup(rows["columns"], ORIGINAL_SHA256, "first")
    return pc.coalesce(noted, rows["sha256"])


def host_of(uri: str) -> str | None:
    """The host of a web address in lower case without `www.`; None for files."""
    if not uri.startswith(("http://", "https://")):
        return None
    return _host_of_authority(uri.split("/", 3)[2])


@lru_cache(1 << 16)
def _host_of_authority(authority: str) -> str | None:
    host = (urlsplit(f"//{authority}").hostname or "").lower()
    return host.removeprefix("www.") or None


@contextmanager
def reader(folder: Folder, name: str) -> Iterator[Read]:
    """A function that reads ranges of one file: system calls on local files, range requests elsewhere (one fetch while it is small)."""
    if folder.local:
        descriptor = os.open(Path(folder.path(name)), os.O_RDONLY)
        try:
            yield lambda offset, length: os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)
    else:
        data = folder.read(name)
        yield lambda offset, length: data[offset : offset + length]
