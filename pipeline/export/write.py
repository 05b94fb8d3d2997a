"""Writes shards by copying byte ranges of parts' tars: no sample is decoded, equal inputs give equal bytes."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle, starmap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.catalogue import ExportError
from handface.pipeline.export.extents import END
from handface.pipeline.export.public import redact_sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

WRITERS = 3  # threads: two copy while one waits for the disk at its shard's end; more do not help
_OPEN = 256  # parts held open at once
_CHUNK = 1 << 19  # bytes gathered before they are hashed and written; stays in the cache meanwhile

Fill = Callable[[int, memoryview], int]  # offset, where to -> bytes read


class Piece(NamedTuple):
    """One sample to copy: where it lies. local: its JSON holds a path of this machine, which is not to be published."""

    key: bytes
    part: int
    offset: int
    size: int
    local: bool


PIECE = np.dtype([("key", "S16"), ("part", "i4"), ("offset", "i8"), ("size", "i8"), ("local", "?")])


@dataclass(frozen=True)
class Shard:
    """A planned or written shard. pieces: (P,) `PIECE`, in order; bytes and sha256 of the file, 0 and "" before it is written."""

    name: str
    split: str
    pieces: NDArray[np.void]
    bytes: int = 0
    sha256: str = ""


def plan_shards(
    pieces: NDArray[np.void], counts: Mapping[str, int], tag: str, max_samples: int, max_bytes: int
) -> list[Shard]:
    """Cut samples into `{split}-{tag}-{index:06d}.tar`.

    Args:
        pieces: (N,) `PIECE`, in their final order, split by split.
        counts: how many each split has.
        tag: of the release: some readers cache shards by their names, so no two releases may share one.
        max_samples: of a shard.
        max_bytes: of a shard, unless one sample alone is larger.
    """
    shards, start = [], 0
    for split, count in counts.items():
        own = pieces[start : start + count]
        start += count
        for index, (low, high) in enumerate(_cut(own["size"], max_samples, max_bytes)):
            shards.append(Shard(f"{split}-{tag}-{index:06d}.tar", split, own[low:high]))
    return shards


def _cut(sizes: NDArray[np.int64], max_samples: int, max_bytes: int) -> Iterator[tuple[int, int]]:
    """First and last place of each chunk."""
    ends, low = np.cumsum(sizes), 0
    while low < len(sizes):
        before = ends[low - 1] if low else 0
        fitting = int(np.searchsorted(ends, before + max_bytes, side="right"))
        high = min(max(fitting, low + 1), low + max_samples)
        yield low, high
        low = high


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
        return replace(shard, bytes=total, sha256=digest.hexdigest())

    def _chunks(self, shard: Shard) -> Iterator[memoryview]:
        """The shard's bytes in order; each chunk is good until the next is asked for."""
        buffers = cycle(self._buffers)
        buffer, held = next(buffers), 0
        for piece in starmap(Piece, shard.pieces.tolist()):
            fill, name, done = self._source(piece.part), piece.key + b".", 0
            if piece.local:
                fill = self._redacted(piece, fill)
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

    def _redacted(self, piece: Piece, fill: Fill) -> Fill:
        """A source of the sample without the local paths in its JSON."""
        sample = bytearray(piece.size)
        if fill(piece.offset, memoryview(sample)) != piece.size:
            raise self._error(piece, "is cut off inside sample")
        if sample.startswith(piece.key + b"."):
            try:
                redact_sample(sample)
            except ValueError as error:
                raise self._error(piece, f"{error}; sample") from error
        return _filler_of(memoryview(sample), piece.offset)

    def _error(self, piece: Piece, problem: str) -> ExportError:
        folder, name = self.tars[piece.part]
        key = piece.key.decode()
        return ExportError(f"{folder.uri}/{name}: {problem} {key}; remove the part's .json and run its job again")

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
    yield _filler_of(memoryview(folder.read(name)), 0)


def _filler_of(data: memoryview, start: int) -> Fill:
    """A function that reads a file of which the bytes from `start` on are in memory."""

    def copy(offset: int, room: memoryview) -> int:
        found = data[offset - start : offset - start + len(room)]
        room[: len(found)] = found
        return len(found)

    return copy
