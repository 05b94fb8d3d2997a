"""Any sample of a data set by its row: tables of where samples lie, and the reader that fetches their bytes."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.addresses import filesystem_of, may_open, open_place
from handface.pipeline.contract.sample import SampleError
from handface.pipeline.contract.shards import find_shards
from handface.pipeline.contract.tables import load_table
from handface.trainers.data.config import DatasetConfig
from handface.trainers.data.errors import DataError
from handface.trainers.data.index import MEMBERS, index_shards

log = logging.getLogger(__name__)
_OPEN_FILES = 128
_GAP = 64 << 10  # bytes between two members that are cheaper to read than a second request


@dataclass(frozen=True)
class Table:
    """The samples of one data set. keys: (n,) str.  shard: (n,) number in `uris`.  members: (n, 3, 2) as in `ShardIndex`."""

    name: str
    uris: tuple[str, ...]
    keys: NDArray[np.str_]
    shard: NDArray[np.int64]
    members: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)


def open_dataset(config: DatasetConfig, index_folder: str | None = None) -> Table:
    """Index a data set's shards and leave out what it excludes.

    Raises FileNotFoundError naming a shard or list that is not there, ShardError for a damaged one, DataError if nothing is left.
    """
    try:
        uris = tuple(dict.fromkeys(find_shards(config.shards)))
        indexes = index_shards(uris, index_folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"data set {config.name}: {error}") from error
    keys = np.array([key for index in indexes for key in index.keys], np.str_)
    shard = np.repeat(np.arange(len(indexes)), [len(index.keys) for index in indexes])
    members = np.concatenate([index.members for index in indexes])
    kept = np.ones(len(keys), bool)
    for file in config.exclude:
        kept &= ~np.isin(keys, excluded_keys(file))
    if config.limit is not None:
        chosen = np.flatnonzero(kept)
        kept[chosen[np.argsort(keys[chosen], kind="stable")][config.limit :]] = False
    if not kept.any():
        raise DataError(f"data set {config.name}: no sample is left of {len(keys)} in {len(uris)} shards")
    return Table(config.name, uris, keys[kept], shard[kept], members[kept])


def excluded_keys(file: str) -> NDArray[np.str_]:
    """The keys of a parquet list, from its column `key`, or `dropped`. Raises FileNotFoundError or DataError naming the file."""
    import pyarrow as pa

    try:
        with open_place(may_open(file)) as stream:
            table = load_table(stream.read())
    except pa.ArrowInvalid as error:
        raise DataError(f"{file}: not a readable parquet file ({error})") from error
    for column in ("key", "dropped"):
        if column in table.column_names:
            keys = [key for key in table[column].to_pylist() if key]
            if unnamed := len(table) - len(keys):
                log.warning(
                    "%s: %d entries name an address, checksum or hash but no sample, which shards do not tell; "
                    "give the list to `handface export --exclude` and train on what it writes",
                    file,
                    unnamed,
                )
            return np.array(keys, np.str_)
    raise DataError(f"{file}: has columns {', '.join(table.column_names)}; a list of samples to leave out needs `key`")


class Reader:
    """Fetches members by offset. Keeps local files open, each process its own; remote ones are read by range."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": {}}

    def read(self, table: Table, row: int, with_mask: bool) -> dict[str, bytes]:
        """{extension: bytes} of a sample: jpg, safetensors and, if wanted and there, mask.png.

        Raises SampleError for a missing or cut-off member and OSError if the shard cannot be read.
        """
        wanted = [k for k, name in enumerate(MEMBERS) if with_mask or name != "mask.png"]
        places = {MEMBERS[k]: table.members[row, k] for k in wanted if table.members[row, k, 0] >= 0}
        for name in ("jpg", "safetensors"):
            if name not in places:
                raise SampleError(f"member .{name} is missing")
        start = min(int(offset) for offset, _ in places.values())
        end = max(int(offset + length) for offset, length in places.values())
        uri = table.uris[table.shard[row]]
        if end - start <= sum(int(length) for _, length in places.values()) + _GAP:
            blob = self._range(uri, start, end)
            return {n: blob[int(o) - start : int(o + length) - start] for n, (o, length) in places.items()}
        return {n: self._range(uri, int(o), int(o + length)) for n, (o, length) in places.items()}

    def _range(self, uri: str, start: int, end: int) -> bytes:
        if "://" in uri:
            filesystem, path = filesystem_of(uri)
            blob = bytes(filesystem.cat_file(path, start=start, end=end))
        else:
            blob = os.pread(self._open(uri), end - start, start)
        if len(blob) != end - start:
            raise SampleError(f"shard ends at byte {start + len(blob)}, before its end at {end}: it has changed")
        return blob

    def _open(self, path: str) -> int:
        if path not in self._files:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[path] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        return self._files[path]
