"""Writes shards by copying byte ranges of parts' tars: no sample is decoded, equal inputs give equal bytes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.export.catalogue import ExportError, reader
from pipeline.export.extents import END
from pipeline.storage import Folder

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.export.extents import Read

_OPEN = 256  # parts held open at once
_CHUNK = 4 << 20  # bytes gathered before they are hashed and written


@dataclass(frozen=True)
class Piece:
    """One sample to copy: where it lies."""

    key: str
    part: int
    offset: int
    size: int


@dataclass(frozen=True)
class Shard:
    """A planned or written shard. pieces in order; bytes and sha256 of the file, 0 and "" before it is written."""

    name: str
    split: str
    pieces: tuple[Piece, ...]
    bytes: int = 0
    sha256: str = ""


def plan_shards(rows: pa.Table, splits: Sequence[str], max_samples: int, max_bytes: int) -> list[Shard]:
    """Cut rows (in their final order) into `{split}-{index:06d}.tar`, splits in order of first appearance."""
    columns = [rows[name].to_pylist() for name in ("key", "part", "offset", "size")]
    by_split: dict[str, list[Piece]] = {}
    for split, values in zip(splits, zip(*columns, strict=True), strict=True):
        by_split.setdefault(split, []).append(Piece(*values))
    shards = []
    for split, pieces in sorted(by_split.items()):
        for index, chunk in enumerate(_cut(pieces, max_samples, max_bytes)):
            shards.append(Shard(f"{split}-{index:06d}.tar", split, tuple(chunk)))
    return shards


def _cut(pieces: Sequence[Piece], max_samples: int, max_bytes: int) -> Iterator[list[Piece]]:
    chunk: list[Piece] = []
    held = 0
    for piece in pieces:
        if chunk and (len(chunk) == max_samples or held + piece.size > max_bytes):
            yield chunk
            chunk, held = [], 0
        chunk.append(piece)
        held += piece.size
    if chunk:
        yield chunk


class Copier:
    """Copies pieces of some tars, each a folder and a name, into shards; keeps a bounded number of them open."""

    def __init__(self, tars: Sequence[tuple[Folder, str]]) -> None:
        self.tars = tars
        self._open: OrderedDict[int, tuple[Read, ExitStack]] = OrderedDict()

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1][1].close()

    def write(self, output: Folder, shard: Shard, advance: Callable[[int], None]) -> Shard:
        """Write one shard whole; returns it with its size and checksum. advance: told the bytes written.

        Raises ExportError if a part is shorter than its headers said, StorageError if the output cannot be written.
        """
        digest, total = hashlib.sha256(), 0
        with output.writer(shard.name) as stream:
            for chunk in self._chunks(shard):
                digest.update(chunk)
                stream.write(chunk)
                total += len(chunk)
                advance(len(chunk))
        return Shard(shard.name, shard.split, shard.pieces, total, digest.hexdigest())

    def _chunks(self, shard: Shard) -> Iterator[bytes]:
        gathered: list[bytes] = []
        held = 0
        for piece in shard.pieces:
            data = self._read(piece.part)(piece.offset, piece.size)
            if len(data) != piece.size:
                folder, name = self.tars[piece.part]
                raise ExportError(f"{folder.uri}/{name}: cut off inside sample {piece.key}; run its job again")
            gathered.append(data)
            held += len(data)
            if held >= _CHUNK:
                yield b"".join(gathered)
                gathered, held = [], 0
        yield b"".join((*gathered, END))

    def _read(self, part: int) -> Read:
        if part in self._open:
            self._open.move_to_end(part)
            return self._open[part][0]
        if len(self._open) >= _OPEN:
            self._open.popitem(last=False)[1][1].close()
        stack = ExitStack()
        read = stack.enter_context(reader(*self.tars[part]))
        self._open[part] = read, stack
        return read
