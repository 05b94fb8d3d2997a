"""Finished parts as one catalogue: which there are, what they started from, and the kept samples of each, part by part."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from handface.pipeline.contract.damage import Damage
from handface.pipeline.contract.exclusion import ORIGINAL_SHA256
from handface.pipeline.contract.parts import FinishedPart, no_parts, none_whole, part_name, read_parts
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import load_table
from handface.pipeline.export.extents import sample_extents

if TYPE_CHECKING:
    import pyarrow as pa

    from handface.pipeline.export.extents import Read

Result = TypeVar("Result")
# columns that say what became of an input
_OF_INPUTS = ("kept", "reason", "detail", "stage")
# parts' tables read at once: what is elsewhere is waited for
_READERS = 8


class ExportError(ValueError):
    """The release cannot be made; the message names the part or file and says what to do."""


@dataclass(frozen=True)
class Catalogue:
    """Finished parts; the rows of their samples are read when they are needed.

    inputs: rows before rejection.  funnel: {stage: {reason: count}}.
    """

    parts: tuple[FinishedPart, ...]
    inputs: int
    funnel: dict[str, dict[str, int]]

    @property
    def samples(self) -> int:
        """Kept samples of all parts."""
        return sum(part.manifest.kept for part in self.parts)

    @property
    def tars(self) -> tuple[tuple[Folder, str], ...]:
        """Folder and name of each part's tar."""
        return tuple((part.folder, part.uri("tar").rpartition("/")[2]) for part in self.parts)

    def checksum(self) -> str:
        """sha256 of the content of all parts, in whatever folders they lie."""
        contents = sorted(
            "".join(f"{info.sha256} {name}\n" for name, info in sorted(part.manifest.files.items()))
            for part in self.parts
        )
        return hashlib.sha256("".join(contents).encode()).hexdigest()

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The kept samples of each part, in the parts' order; as `kept_rows`."""
        yield from self.map(lambda _, table: table, columns)

    def map(self, work: Callable[[int, pa.Table], Result], columns: Sequence[str] | None = None) -> Iterator[Result]:
        """What `work` makes of each part's number and table, in order; a few parts are read ahead."""
        ahead: deque[Future[Result]] = deque()
        with ThreadPoolExecutor(_READERS) as pool:
            for number, part in enumerate(self.parts):
                ahead.append(pool.submit(lambda number, part: work(number, kept_rows(part, columns)), number, part))
                if len(ahead) == 2 * _READERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()


def read_catalogue(folders: Sequence[str], damage: Damage | None = None) -> Catalogue:
    """Find every finished part of some folders. A sample that is in two parts is listed twice.

    Only manifests are read, and what `damage`, which is told of parts that are left out, wants to have compared. Raises
    ExportError if a folder has no parts, or none of them is whole.
    """
    if not folders:
        raise ExportError("name at least one folder of parts")
    damage = Damage() if damage is None else damage
    parts: list[FinishedPart] = []
    for folder in folders:
        before = len(damage.files)
        found = list(read_parts(folder, damage))
        if not found and len(damage.files) == before:
            raise ExportError(no_parts(folder))
        parts += found
    if not parts:
        raise ExportError(none_whole(", ".join(folders), damage.files))
    funnel: dict[str, Counter[str]] = {}
    for part in parts:
        for stage, reasons in part.manifest.rejected.items():
            funnel.setdefault(stage, Counter()).update(reasons)
    inputs = sum(part.manifest.inputs for part in parts)
    return Catalogue(tuple(parts), inputs, {stage: dict(reasons) for stage, reasons in funnel.items()})


def kept_rows(part: FinishedPart, columns: Sequence[str] | None = None) -> pa.Table:
    """A part's kept samples: the part's columns, or some of them, plus `original_sha256` and `host`.

    `offset` and `size` say where a sample lies in the part's tar. Raises ExportError if table and tar differ.
    """
    import pyarrow as pa

    rows = _read(part, columns)
    rows = rows.filter(rows["kept"])
    rows = rows.drop_columns([name for name in _OF_INPUTS if name in rows.column_names])
    if "offset" not in rows.column_names:
        rows = _with_places(rows, part)
    added = {
        ORIGINAL_SHA256: _original_sha256(rows),
        "host": pa.array([host_of(uri) for uri in rows["uri"].to_pylist()], pa.string()),
        "offset": rows["offset"],
        "size": rows["size"],
    }
    rows = rows.drop_columns(["offset", "size"])
    for name, values in added.items():
        rows = rows.append_column(name, values)
    return rows


def _read(part: FinishedPart, columns: Sequence[str] | None) -> pa.Table:
    if columns is None:
        return part.rows()
    wanted = dict.fromkeys((*columns, "kept", "key", "uri", "sha256", "columns"))
    data = part.folder.read(part_name(part.manifest.unit, "parquet"))
    try:
        return load_table(data, [*wanted, "offset", "size"])
    # tables of older parts do not say where samples lie
    except KeyError:
        return load_table(data, list(wanted))


def _with_places(rows: pa.Table, part: FinishedPart) -> pa.Table:
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
    try:
        host = (urlsplit(f"//{authority}").hostname or "").lower()
    # an IPv6 address without its end
    except ValueError:
        return None
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
