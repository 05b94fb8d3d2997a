"""Writes shards by copying byte ranges of parts' tars: no sample is decoded, equal inputs give equal bytes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle, groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.catalogue import ExportError
from handface.pipeline.export.extents import END

if TYPE_CHECKING:
    import pyarrow as pa

WRITERS = 3  # threads: two copy while one waits for the disk at its shard's end; more do not help
_OPEN = 256  # parts held open at once
_CHUNK = 1 << 19  # bytes gathered before they are hashed and written; stays in the cache meanwhile

Fill = Callable[[int, memoryview], int]  # offset, where to -> bytes read


class Piece(NamedTuple):
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
    """Cut rows, in their final order and split by split, into `{split}-{index:06d}.tar`."""
    columns = [rows[name].to_pylist() for name in ("key", "part", "offset", "size")]
    pieces = zip(splits, map(Piece, *columns), strict=True)
    shards = []
    for split, group in groupby(pieces, key=itemgetter(0)):
        for index, chunk in enumerate(_cut((piece for _, piece in group), max_samples, max_bytes)):
            shards.append(Shard(f"{split}-{index:06d}.tar", split, tuple(chunk)))
    return shards


def _cut(pieces: Iterable[Piece], max_samples: int, max_bytes: int) -> Iterator[list[Piece]]:
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


def write_shards(
    tars: Sequence[tuple[Folder, str]], output: Folder, shards: Sequence[Shard], advance: Callable[[int], None]
) -> list[Shard]:
    """Write every shard; returns them in order with sizes and checksums. advance: told the bytes written, from any thread.

    Local files are copied by a few threads, a shard each, so that one is hashed while another is read, written or synced;
    what is fetched whole from elsewhere is held once, by one thread. Raises as `Copier.write`; later shards are then not begun.
    """
    workers = WRITERS if output.local and all(folder.local for folder in {folder for folder, _ in tars}) else 1
    own = threading.local()

    def write(shard: Shard) -> Shard:
        if not hasattr(own, "copier"):
            own.copier = copiers.enter_context(Copier(tars))
        copier: Copier = own.copier
        output.clean(shard.name)
        return copier.write(output, shard, advance)

    with ExitStack() as copiers, ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(write, shard) for shard in shards]
        try:
            return [future.result() for future in futures]
        finally:
            pool.shutdown(cancel_futures=True)


class Copier:
    """Copies pieces of some tars, each a folder and a name, into shards; keeps a bounded number of them open."""

    def __init__(self, tars: Sequence[tuple[Folder, str]]) -> None:
        self.tars = tars
        self._open: OrderedDict[int, tuple[Fill, ExitStack]] = OrderedDict()
        self._buffers = [memoryview(bytearray(_CHUNK)) for _ in range(2)]

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
        with output.writer(shard.name) as stream, ThreadPoolExecutor(1) as hasher:
            hashed: Future[None] | None = None
            for chunk in self._chunks(shard):
                if hashed is not None:
                    hashed.result()  # the chunk's memory is filled again after the next one
                hashed = hasher.submit(digest.update, chunk)
                stream.write(chunk)
                total += len(chunk)
                advance(len(chunk))
        return Shard(shard.name, shard.split, shard.pieces, total, digest.hexdigest())

    def _chunks(self, shard: Shard) -> Iterator[memoryview]:
        """The shard's bytes in order; each chunk is good until the next is asked for."""
        buffers = cycle(self._buffers)
        buffer, held = next(buffers), 0
        for piece in shard.pieces:
            fill, name, done = self._source(piece.part), f"{piece.key}.".encode(), 0
            while done < piece.size:
                room = buffer[held : held + piece.size - done]
                if fill(piece.offset + done, room) != len(room):
                    raise self._error(piece, "is cut off inside sample")
                if not done and room[: len(name)] != name[: len(room)]:
                    raise self._error(piece, "does not hold, where its table says, sample")
                done, held = done + len(room), held + len(room)
                if held == _CHUNK:
                    yield buffer
                    buffer, held = next(buffers), 0
        yield buffer[:held]
        yield memoryview(END)

    def _error(self, piece: Piece, problem: str) -> ExportError:
        folder, name = self.tars[piece.part]
        return ExportError(f"{folder.uri}/{name}: {problem} {piece.key}; remove the part's .json and run its job again")

    def _source(self, part: int) -> Fill:
        if part in self._open:
            self._open.move_to_end(part)
            return self._open[part][0]
        if len(self._open) >= _OPEN:
            self._open.popitem(last=False)[1][1].close()
        stack = ExitStack()
        fill = stack.enter_context(_filler(*self.tars[part]))
        self._open[part] = fill, stack
        return fill


@contextmanager
def _filler(folder: Folder, name: str) -> Iterator[Fill]:
    """A function that reads one file into memory that is there already: fresh memory for each chunk costs as much as the copy."""
    if folder.local:
        descriptor = os.open(Path(folder.path(name)), os.O_RDONLY)
        try:
            yield lambda offset, room: os.preadv(descriptor, [room], offset)
        finally:
            os.close(descriptor)
        return
    data = memoryview(folder.read(name))

    def copied(offset: int, room: memoryview) -> int:
        found = data[offset : offset + len(room)]
        room[: len(found)] = found
        return len(found)

    yield copied
