"""Where the samples of a tar lie, from its headers alone, so that they can be copied without being opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from handface.pipeline.contract.shards import ShardError

_BLOCK = 512
_NAME, _SIZE, _TYPE, _PREFIX = slice(0, 100), slice(124, 136), 156, slice(345, 500)
_PLAIN = b"0\0"  # type flags of plain files
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
    key, start, offset = b"", 0, 0
    while offset + _BLOCK <= length:
        header = read(offset, _BLOCK)
        if len(header) != _BLOCK or not header[0]:
            break
        member = _member(header)
        if header[_TYPE] not in _PLAIN:
            raise ShardError(f"{name}: member {_text(member)!r} is not a plain file; `handface validate` says more")
        try:
            size = int(header[_SIZE].rstrip(b" \0"), 8)
        except ValueError as error:
            raise ShardError(f"{name}: damaged header at byte {offset}; `handface validate` says more") from error
        stem = member.partition(b".")[0]
        if stem != key:
            if key:
                yield Extent(_text(key), start, offset - start)
            key, start = stem, offset
        offset += _BLOCK + -(-size // _BLOCK) * _BLOCK
    if offset > length:
        raise ShardError(f"{name}: cut off inside sample {_text(key)}; remove its .json and run the job again")
    if key:
        yield Extent(_text(key), start, offset - start)


def read_members(sample: bytes | bytearray) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content, and size of each member of a sample's bytes."""
    offset = 0
    while offset + _BLOCK <= len(sample):
        header = bytes(sample[offset : offset + _BLOCK])
        size = int(header[_SIZE].rstrip(b" \0"), 8)
        yield _member(header), offset + _BLOCK, size
        offset += _BLOCK + -(-size // _BLOCK) * _BLOCK


def _member(header: bytes) -> bytes:
    name = header[_NAME].partition(b"\0")[0]
    return header[_PREFIX].partition(b"\0")[0] + b"/" + name if header[_PREFIX.start] else name


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
