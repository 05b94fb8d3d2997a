"""Walks a tar that nobody trusts: yields its members and says what is unsafe, foreign, damaged or cut off.

Reads the headers itself instead of through a loader, since a loader hides exactly what must be seen here.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from handface.pipeline.contract.checks.sample import EXTENSIONS
from handface.pipeline.contract.shards import unsafe_member

_BLOCK = tarfile.BLOCKSIZE
_PICKLES = {"pyd", "pkl", "pickle", "pth", "pt"}  # by the last part of the name
_HAMER = {"data.pyd", "detection.npz"}


@dataclass(frozen=True)
class Member:
    """One member. `data` is None if it was refused, and then `code` and `problem` say why."""

    key: str
    extension: str
    data: bytes | None
    code: str = ""
    problem: str = ""


class TarWalk:
    """One pass over a tar: iterate the members, then look at `damage`, `count` and `sha256`."""

    def __init__(self, stream: IO[bytes], progress: Callable[[int], None]) -> None:
        self._stream = _Tee(stream, progress)
        self.damage = ""

    @property
    def count(self) -> int:
        """Bytes read."""
        return self._stream.count

    @property
    def sha256(self) -> str:
        """Of the whole file, once iterated."""
        return self._stream.sha256.hexdigest()

    def __iter__(self) -> Iterator[Member]:
        """Members in order; the file is read to its end whatever it holds."""
        head = self._stream.read(_BLOCK)
        self.damage = _not_a_tar(head)
        end = 0  # of the last member, with its padding
        if not self.damage:
            try:
                source: Any = _Prefixed(head, self._stream)  # `r|` only ever reads
                with tarfile.open(fileobj=source, mode="r|") as tar:
                    for info in tar:
                        yield _member(tar, info)
                        end = info.offset_data + -(-info.size // _BLOCK) * _BLOCK
            except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
                self.damage = f"damaged or cut off at byte {self.count} ({error})"
        while self._stream.read(1 << 20):  # the rest, for the checksum
            pass
        if self.damage:
            return
        if self._stream.last_used > end:  # tarfile stops quietly at a header it cannot read
            self.damage = f"unreadable from byte {end} on: neither a member nor the end of the tar"
        elif self.count < end + 2 * _BLOCK:
            self.damage = f"ends at byte {self.count} without the two zero blocks that close a tar: cut off?"


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    if problem := unsafe_member(info):
        return Member(info.name, "", None, "unsafe_member", problem)
    folder, slash, base = info.name.rpartition("/")
    stem, _, extension = base.partition(".")
    key, last = folder + slash + stem, extension.rpartition(".")[2].lower()
    if extension in _HAMER:
        problem = (
            f".{extension} is a HaMeR-style label that can run code when loaded, so it is refused; convert such shards "
            "once, on their own: docs/sample_format.md, 'From HaMeR-style shards'"
        )
        return Member(key, extension, None, "pickle", problem)
    if last in _PICKLES:
        problem = f".{last} can run code when loaded; numbers go to .safetensors, everything else to .json"
        return Member(key, extension, None, "pickle", problem)
    if extension not in EXTENSIONS:
        known = ", ".join(f".{e}" for e in EXTENSIONS)
        return Member(key, extension, None, "unknown_member", f"member {info.name!r} is none of {known}")
    data = tar.extractfile(info)
    return Member(key, extension, b"" if data is None else data.read())


def _not_a_tar(head: bytes) -> str:
    """What is wrong with the first block, or nothing."""
    if not head:
        return "the file is empty (0 bytes)"
    if head[:2] == b"\x1f\x8b" or head[:4] == b"\x28\xb5\x2f\xfd":
        return "compressed; shards are plain tar, so that a sample can be found by its offset: decompress it"
    if len(head) == _BLOCK and not head.strip(b"\0"):
        return ""  # an empty but whole tar
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        return f"not a tar file ({error})"
    return ""


class _Tee:
    """A read-only stream that hashes, counts and reports what passes."""

    def __init__(self, stream: IO[bytes], progress: Callable[[int], None]) -> None:
        self._stream, self._progress = stream, progress
        self.sha256 = hashlib.sha256()
        self.count = 0
        self.last_used = 0  # where the last byte that is not zero ends

    def read(self, size: int) -> bytes:
        """Read and account."""
        data = self._stream.read(size)
        self.sha256.update(data)
        if used := len(data.rstrip(b"\0")):
            self.last_used = self.count + used
        self.count += len(data)
        self._progress(len(data))
        return data


class _Prefixed:
    """A stream whose first bytes were already taken off."""

    def __init__(self, head: bytes, stream: _Tee) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int) -> bytes:
        """The head first, then the rest."""
        if not self._head:
            return self._stream.read(size)
        data, self._head = self._head[:size], self._head[size:]
        return data + self._stream.read(size - len(data)) if len(data) < size else data
