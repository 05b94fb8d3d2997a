"""Where the samples of a tar lie, from its headers alone, so that they can be copied without being opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.shards import ShardError

_BLOCK = 512
_NAME, _SIZE, _TYPE, _PREFIX = slice(0, 100), slice(124, 136), 156, slice(345, 500)
END = bytes(2 * _BLOCK)  # closes a tar

Read = Callable[[int, int], bytes]  # offset, length -> bytes


@dataclass(frozen=True)
class Extent:
    """One sample's members, headers and padding included: bytes `start` to `start + size` of the tar."""

    key: str
    start: int
    size: int


def sample_extents(name: str, length: int, read: Read) -> Iterator[Extent]:
    """The samples of a tar that this project wrote: plain USTAR files, a sample's members side by side.

    name: for messages.  length: bytes of the tar.  read: returns a range of it.
    Raises ShardError for anything that is not such a file; the extents were then not to be copied blindly.
    """
    key, start, offset = "", 0, 0
    while offset + _BLOCK <= length:
        header = read(offset, _BLOCK)
        if len(header) != _BLOCK or not header[0]:
            break
        member = _text(header[_PREFIX] + b"/" if header[_PREFIX.start] else b"") + _text(header[_NAME])
        if header[_TYPE : _TYPE + 1] not in (b"0", b"\0"):
            raise ShardError(f"{name}: member {member!r} is not a plain file; `handface validate` says more")
        try:
            size = int(header[_SIZE].rstrip(b" \0"), 8)
        except ValueError as error:
            raise ShardError(f"{name}: damaged header at byte {offset}; `handface validate` says more") from error
        stem = member.partition(".")[0]
        if stem != key:
            if key:
                yield Extent(key, start, offset - start)
            key, start = stem, offset
        offset += _BLOCK + -(-size // _BLOCK) * _BLOCK
    if offset > length:
        raise ShardError(f"{name}: cut off inside sample {key}; remove its .json and run the job again")
    if key:
        yield Extent(key, start, offset - start)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "replace")
