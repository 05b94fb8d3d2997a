"""Walks a tar that nobody trusts: yields its members and says what is unsafe, foreign, damaged or cut off."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, cast

from handface.pipeline.contract.checks.sample import EXTENSIONS
from handface.pipeline.contract.tar_index import (
    BLOCK,
    HAMER_ADVICE,
    HAMER_MEMBERS,
    Member,
    ShardError,
    iter_members,
    read_data,
    split_name,
    stream_length,
)

_PICKLES = {"pyd", "pkl", "pickle", "pth", "pt"}  # by the last part of the name


@dataclass(frozen=True)
class CheckedMember:
    """One member. `data` is None if it was refused, and then `code` and `problem` say why."""

    key: str
    extension: str
    data: bytes | None
    code: str = ""
    problem: str = ""


class TarWalk:
    """One pass over a tar: iterate the members, then look at `damage`, `count` and `sha256`."""

    def __init__(self, uri: str, stream: IO[bytes], progress: Callable[[int], None]) -> None:
        self._uri, self._stream = uri, _Tee(stream, progress)
        self.damage = ""

    @property
    def count(self) -> int:
        """Bytes read."""
        return self._stream.count

    @property
    def sha256(self) -> str:
        """Of the whole file, once iterated."""
        return self._stream.sha256.hexdigest()

    def __iter__(self) -> Iterator[CheckedMember]:
        """Members in order; the file is read to its end whatever it holds."""
        end = 0  # of the last member, with its padding
        try:
            for member in iter_members(self._uri, cast(IO[bytes], self._stream), self._stream.length):
                yield self._judge(member)
                end = member.end
        except ShardError as error:
            self.damage = str(error).removeprefix(f"{self._uri}: ")
        self._stream.seek(self._stream.length)  # the rest, for the checksum
        if not self.damage and self.count < end + 2 * BLOCK:
            self.damage = f"ends at byte {self.count} without the two zero blocks that close a tar: cut off?"

    def _judge(self, member: Member) -> CheckedMember:
        key, extension = split_name(member.name)
        last = extension.rpartition(".")[2]
        if member.problem:
            return CheckedMember(member.name, "", None, "unsafe_member", member.problem)
        if extension in HAMER_MEMBERS:
            return CheckedMember(key, extension, None, "pickle", f".{extension} {HAMER_ADVICE}")
        if last in _PICKLES:
            problem = f".{last} can run code when loaded; numbers go to .safetensors, everything else to .json"
            return CheckedMember(key, extension, None, "pickle", problem)
        if extension not in EXTENSIONS:
            known = ", ".join(f".{e}" for e in EXTENSIONS)
            return CheckedMember(key, extension, None, "unknown_member", f"member {member.name!r} is none of {known}")
        return CheckedMember(key, extension, read_data(self._uri, cast(IO[bytes], self._stream), member))


class _Tee:
    """A stream that goes forward only, and hashes, counts and reports what passes; skipped bytes pass too."""

    def __init__(self, stream: IO[bytes], progress: Callable[[int], None]) -> None:
        self.length = stream_length(stream)
        self._stream, self._progress = stream, progress
        self.sha256 = hashlib.sha256()
        self.count = 0

    def read(self, size: int) -> bytes:
        """Read and account."""
        data = self._stream.read(size)
        self.sha256.update(data)
        self.count += len(data)
        self._progress(len(data))
        return data

    def seek(self, offset: int) -> int:
        """Read on to a later byte, or to the end."""
        while self.count < offset and self.read(min(offset - self.count, 1 << 20)):
            pass
        return self.count
