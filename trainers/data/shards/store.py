"""Any sample of a data set by its row: tables of where samples lie, and the reader that fetches their bytes."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.exclusion import Exclusion
from handface.pipeline.contract.names.addresses import filesystem_of
from handface.pipeline.contract.sample import SampleError
from handface.pipeline.contract.shards import find_shards
from handface.pipeline.contract.tar_index import BLOCK, ShardError, group_samples, iter_allowed, iter_members
from handface.trainers.data.config import DatasetConfig
from handface.trainers.data.errors import DataError
from handface.trainers.data.shards.index import ShardIndex, index_shards
from handface.trainers.data.shards.tar_walk import split_sample
from handface.trainers.run_folder.storage import PATIENCE_S, is_outage, with_retries

log = logging.getLogger(__name__)
_OPEN_FILES = 128
MEMBERS = ("jpg", "safetensors", "mask.png")  # what training reads


@dataclass(frozen=True)
class Table:
    """The samples of one data set, eight bytes each; names are read with the samples.

    Attributes:
        name: Of the data set.
        uris: Its shards.
        ends: (shards,) rows up to and with each shard.
        starts, sizes: (n,) as in `ShardIndex`.
        digest: sha256 of all names and their shards, in order.
    """

    name: str
    uris: tuple[str, ...]
    ends: NDArray[np.int64]
    starts: NDArray[np.uint32]
    sizes: NDArray[np.uint32]
    digest: bytes

    def __len__(self) -> int:
        return len(self.starts)

    def uri(self, row: int) -> str:
        """The shard of a row."""
        return self.uris[int(np.searchsorted(self.ends, row, "right"))]

    def place(self, row: int) -> str:
        """Where a row lies, for messages."""
        return f"{self.uri(row)} at byte {int(self.starts[row]) * BLOCK}"

    @property
    def shards(self) -> NDArray[np.int64]:
        """(n,) number of each row's shard."""
        return np.repeat(np.arange(len(self.uris)), np.diff(self.ends, prepend=0))


def open_dataset(config: DatasetConfig, index_folder: str | None = None, patience: float = PATIENCE_S) -> Table:
    """Index a data set's shards and leave out what it excludes.

    Raises FileNotFoundError naming a shard or list that is not there, ShardError for a damaged one, DataError if nothing is left.
    """
    try:
        found = with_retries(config.name, find_shards, config.shards, patience_s=patience)
        uris = tuple(dict.fromkeys(found))
        indexes = index_shards(uris, index_folder, patience)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"data set {config.name}: {error}") from error
    counts = [len(index.keys) for index in indexes]
    shard = np.repeat(np.arange(len(indexes)), counts)
    kept = np.ones(sum(counts), bool)
    if config.exclude or config.limit is not None:
        keys = np.array([key for index in indexes for key in index.keys], np.str_)
        for file in config.exclude:
            kept &= ~np.isin(keys, np.array(excluded_keys(file), np.str_))
        if config.limit is not None:
            chosen = np.flatnonzero(kept)
            kept[chosen[np.argsort(keys[chosen], kind="stable")][config.limit :]] = False
    if not kept.any():
        raise DataError(f"data set {config.name}: no sample is left of {len(kept)} in {len(uris)} shards")
    starts, sizes = (np.concatenate([getattr(index, name) for index in indexes])[kept] for name in ("starts", "sizes"))
    ends = np.cumsum(np.bincount(shard[kept], minlength=len(uris)))
    return Table(config.name, uris, ends, starts, sizes, _digest(indexes, kept))


def _digest(indexes: Sequence[ShardIndex], kept: NDArray[np.bool_]) -> bytes:
    digest, first = hashlib.sha256(), 0
    for number, index in enumerate(indexes):
        rows = kept[first : first + len(index.keys)]
        names = "\n".join(key for key, keep in zip(index.keys, rows, strict=True) if keep)
        digest.update(f"{number}\n{names}\n".encode())
        first += len(index.keys)
    return digest.digest()


def excluded_keys(file: str) -> list[str]:
    """The keys that a list of `Exclusion`s names. Raises FileNotFoundError or ExclusionError naming the file, DataError without any key."""
    listed = Exclusion.read(file)
    if listed.unkeyed:
        what = f"{file}: {listed.unkeyed} entries name an address, checksum or hash but no sample, which shards do not tell"
        advice = "give the list to `handface export --exclude` and train on what it writes"
        if not listed.keys:
            raise DataError(f"{what}; {advice}")
        log.warning("%s; %s", what, advice)
    return sorted(listed.keys)


class Reader:
    """Fetches members by offset. Keeps local files open, each process its own; remote ones are read by range."""

    def __init__(self, patience: float = PATIENCE_S) -> None:
        """patience: seconds for which storage that does not answer is tried again."""
        self.patience = patience
        self._files: dict[str, int] = {}
        # shards that did not answer in all that time: asked once only from then on
        self._lost: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {"patience": self.patience, "_files": {}, "_lost": set()}

    def read(self, table: Table, row: int) -> tuple[str, dict[str, bytes]]:
        """Key and {extension: bytes} of a sample: those of jpg, safetensors and mask.png that are there.

        Raises SampleError for a cut-off sample and OSError if the shard cannot be read.
        """
        uri, start = table.uri(row), int(table.starts[row]) * BLOCK
        return _split(self._range(uri, start, start + int(table.sizes[row])), table, row)

    def _range(self, uri: str, start: int, end: int) -> bytes:
        try:
            patience = 0.0 if uri in self._lost else self.patience
            blob = with_retries(uri, self._read_bytes, uri, start, end, patience_s=patience)
        except Exception as error:
            if not is_outage(error):
                raise
            if isinstance(error, FileNotFoundError):
                raise OSError(f"{uri}: is not there any more; put it back and give the same command again") from error
            self._lost.add(uri)
            raise OSError(f"{uri}: no answer in {self.patience:.0f} s ({type(error).__name__}: {error})") from error
        self._lost.discard(uri)
        if len(blob) != end - start:
            raise SampleError(f"shard ends at byte {start + len(blob)}, before its end at {end}: it has changed")
        return blob

    def _read_bytes(self, uri: str, start: int, end: int) -> bytes:
        if "://" in uri:
            filesystem, path = filesystem_of(uri)
            return bytes(filesystem.cat_file(path, start=start, end=end))
        try:
            return os.pread(self._open(uri), end - start, start)
        except OSError:
            # a handle of a mount that went away stays bad
            if (descriptor := self._files.pop(uri, None)) is not None:
                os.close(descriptor)
            raise

    def _open(self, path: str) -> int:
        if path not in self._files:
            if len(self._files) >= _OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[path] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        return self._files[path]


def _split(blob: bytes, table: Table, row: int) -> tuple[str, dict[str, bytes]]:
    """Key and members of one sample's piece of a tar. Raises SampleError if it is no longer that."""
    if (found := split_sample(blob, MEMBERS)) is not None:
        return found
    uri, end = table.uri(row), bytes(-len(blob) % BLOCK + 2 * BLOCK)
    stream, length = io.BytesIO(blob + end), len(blob) + len(end)
    try:
        members = iter_allowed(uri, iter_members(uri, stream, length))
        samples = dict(group_samples(uri, ((m, blob[m.offset : m.offset + m.size]) for m in members)))
    except ShardError as error:
        raise SampleError(f"{table.place(row)}: no sample there ({error}): the shard has changed") from error
    if len(samples) != 1:
        raise SampleError(f"{table.place(row)}: {len(samples)} samples instead of one: the shard has changed")
    return next(iter(samples.items()))
