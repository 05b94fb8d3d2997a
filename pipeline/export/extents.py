"""Where the samples of a tar lie, from its headers alone, so that they can be copied without being opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, cast

from handface.pipeline.contract.tar_index import BLOCK, group_samples, iter_allowed, iter_members

END = bytes(2 * BLOCK)  # closes a tar

Read = Callable[[int, int], bytes]  # offset, length -> bytes


@dataclass(frozen=True)
class Extent:
    """One sample's members, headers and padding included: bytes `start` to `start + size` of the tar."""

    key: str
    start: int
    size: int


def sample_extents(name: str, length: int, read: Read) -> Iterator[Extent]:
    """The samples of a tar of ours: plain files, a sample's members side by side.

    name: for messages.  length: bytes of the tar.  read: returns a range of it.
    Raises ShardError for anything that is not such a file; the extents were then not to be copied blindly.
    """
    members = iter_allowed(name, iter_members(name, cast(IO[bytes], _Ranges(read, length)), length))
    for key, sample in group_samples(name, ((member, member) for member in members)):
        places = list(sample.values())
        yield Extent(key, places[0].start, places[-1].end - places[0].start)


class _Ranges:
    """A stream over a function that reads ranges."""

    def __init__(self, read: Read, length: int) -> None:
        self._read, self._length, self._at = read, length, 0

    def seek(self, offset: int) -> int:
        """Go to a byte."""
        self._at = offset
        return offset

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; less at the end."""
        data = bytes(self._read(self._at, max(0, min(size, self._length - self._at))))
        self._at += len(data)
        return data
