"""The one reader of tar headers: where each member lies, and an error that names tar and byte where that cannot be told.

Python's own tarfile ends quietly at a header that it cannot read, so members behind it would be missing without a word.
"""

from __future__ import annotations

import io
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, TypeVar

MAX_MEMBER_BYTES = 64 << 20  # a sample has no member above 1 MB; guards memory against a header that lies
HAMER_MEMBERS = ("data.pyd", "detection.npz")
HAMER_ADVICE = (
    "is a HaMeR-style label that can run code when loaded, so it is refused; convert such shards once, on their own: "
    "docs/sample_format.md, 'From HaMeR-style shards'"
)
BLOCK = tarfile.BLOCKSIZE
_MAX_EXTENDED = 1 << 20  # bytes of one PAX or GNU long-name header
_LONG_NAME, _LONG_LINK, _PAX, _SOLARIS_PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"X", b"g"
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
_KINDS = {
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.DIRTYPE: "folder",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}
_COMPRESSED = {
    b"\x1f\x8b": "gzip -d",
    b"BZh": "bzip2 -d",
    b"\xfd7zXZ\0": "xz -d",
    b"\x28\xb5\x2f\xfd": "zstd -d",
    b"PK\x03\x04": "unzip",
}
Value = TypeVar("Value")


class ShardError(ValueError):
    """A tar is damaged or holds what it must not; the message names the file and the byte or member."""


@dataclass(frozen=True, slots=True)
class Member:
    r"""One member: its data are the bytes `offset` to `offset + size`, its first header begins at `start`.

    A name that is not UTF-8 has its odd bytes written as `\xNN`. `problem` says why the member must not be read, or "".
    """

    name: str
    start: int
    offset: int
    size: int
    problem: str = ""
    is_folder: bool = False

    @property
    def key(self) -> str:
        """Members with equal keys are one sample: folder and name up to the FIRST dot."""
        return split_name(self.name)[0]

    @property
    def extension(self) -> str:
        """What follows the first dot, in lower case as webdataset has it."""
        return split_name(self.name)[1]

    @property
    def is_hidden(self) -> bool:
        """Names that begin with a dot, such as macOS's `._photo.jpg`, belong to no sample."""
        return self.name.rpartition("/")[2].startswith(".")

    @property
    def end(self) -> int:
        """Where the next member's header begins."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


def split_name(name: str) -> tuple[str, str]:
    """A member's name as (key, extension): `a/0001.depth.PNG` -> (`a/0001`, `depth.png`)."""
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return folder + slash + stem, extension.lower()


def stream_length(stream: IO[bytes]) -> int:
    """Bytes of a seekable stream, which is left at its start."""
    length = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return length


def iter_members(uri: str, stream: IO[bytes], length: int) -> Iterator[Member]:
    """Every member in order, by the headers alone; those that must not be read have a `problem`.

    Args:
        uri: For messages.
        stream: Only `read` and `seek` to a later byte are used. Between two members the caller may read the data.
        length: Bytes of the whole file.

    Raises:
        ShardError: The file is no tar, or from a byte on, which is named, it is neither a member nor the end of a tar.
    """
    shared: dict[str, str] = {}  # PAX values for all members that follow
    extended: dict[str, str] = {}  # for the next one
    at = start = 0
    while True:
        stream.seek(at)
        block = stream.read(BLOCK)
        if not block.strip(b"\0") and len(block) == BLOCK:
            _check_end(uri, stream, at + BLOCK)
            return
        info = _header(uri, block, at)
        size = _size(uri, at, info, {} if info.type in (_PAX, _LONG_NAME, _LONG_LINK) else shared | extended)
        has_data = info.isreg() or info.type not in tarfile.SUPPORTED_TYPES
        data, end = at + BLOCK, at + BLOCK + (-(-size // BLOCK) * BLOCK)
        if info.type in (_LONG_NAME, _LONG_LINK, _PAX, _SOLARIS_PAX, _PAX_GLOBAL):
            if size > _MAX_EXTENDED or data + size > length:
                raise _damaged(uri, at, f"a header for the next member's name claims {size} bytes")
            found = _extended(uri, at, info.type, stream.read(size))
            if info.type == _PAX_GLOBAL:
                shared |= found
            else:
                extended |= found
            at = end
            continue
        values = shared | extended
        name = values.get("path", info.name)
        if has_data and data + size > length:
            raise _damaged(uri, length, f"member {_readable(name)!r} at byte {at} claims {size} bytes")
        sparse = info.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in values)
        problem = _refusal(name, info.type, size, sparse)
        yield Member(
            _readable(name), start, data, size if has_data else 0, problem, is_folder=info.type == tarfile.DIRTYPE
        )
        extended = {}
        at = start = end if has_data else data


def read_data(uri: str, stream: IO[bytes], member: Member) -> bytes:
    """A member's bytes. Raises ShardError if the file ends inside."""
    stream.seek(member.offset)
    data = stream.read(member.size)
    if len(data) != member.size:
        raise _damaged(uri, member.offset + len(data), f"member {member.name!r} is cut off")
    return data


def iter_allowed(uri: str, members: Iterable[Member]) -> Iterator[Member]:
    """The members of a shard of ours, hidden ones left out. Raises ShardError naming one that a shard must not hold."""
    for member in members:
        if member.problem:
            raise ShardError(f"{uri}: member {member.name!r} refused: {member.problem}")
        if member.is_hidden:
            continue
        if member.extension in HAMER_MEMBERS:
            raise ShardError(f"{uri}: member {member.name!r} {HAMER_ADVICE}")
        yield member


def group_samples(uri: str, members: Iterable[tuple[Member, Value]]) -> Iterator[tuple[str, dict[str, Value]]]:
    """Members that stand together and share a key, as (key, {extension: value}).

    Raises ShardError for a member that is there twice, and for a sample whose members do not stand together: streaming readers
    such as webdataset would take it for two.
    """
    key: str | None = None
    sample: dict[str, Value] = {}
    seen: set[str] = set()
    for member, value in members:
        stem, extension = split_name(member.name)
        if stem != key:
            if key is not None:
                yield key, sample
            if stem in seen:
                raise ShardError(f"{uri}: key {stem} is there twice, in two places")
            seen.add(stem)
            key, sample = stem, {}
        if extension in sample:
            raise ShardError(f"{uri}: member {member.name} is there twice")
        sample[extension] = value
    if key is not None:
        yield key, sample


def _damaged(uri: str, at: int, what: str) -> ShardError:
    return ShardError(f"{uri}: damaged or cut off at byte {at}: {what}")


def _header(uri: str, block: bytes, at: int) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        if at == 0:
            raise ShardError(f"{uri}: {_no_tar(block, error)}") from error
        if not block:
            raise _damaged(uri, at, "the two zero blocks that close a tar are missing") from error
        raise _damaged(uri, at, f"neither a member nor the end of the tar ({error})") from error


def _no_tar(block: bytes, error: tarfile.HeaderError) -> str:
    if not block:
        return "the file is empty (0 bytes)"
    for magic, command in _COMPRESSED.items():
        if block.startswith(magic):
            return f"compressed; members are found by their offset in a plain tar: unpack it first (`{command}`)"
    return f"not a tar file ({error})"


def _size(uri: str, at: int, info: tarfile.TarInfo, values: dict[str, str]) -> int:
    text = values.get("size")
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 20):
        raise _damaged(uri, at, f"its PAX header gives the size {text[:40]!r}")
    size = info.size if text is None else int(text)
    if size < 0:
        raise _damaged(uri, at, f"a member of {size} bytes")
    return size


def _extended(uri: str, at: int, kind: bytes, data: bytes) -> dict[str, str]:
    r"""The values of a PAX header (`LENGTH NAME=VALUE\n` records) or a GNU long name."""
    if kind in (_LONG_NAME, _LONG_LINK):
        return {"path" if kind == _LONG_NAME else "linkpath": _text(data.partition(b"\0")[0])}
    values, position = {}, 0
    while position < len(data) and data[position]:
        digits, _, _ = data[position : position + 20].partition(b" ")
        if not digits.isdigit() or int(digits) <= len(digits) + 1 or position + int(digits) > len(data):
            raise _damaged(uri, at, "a PAX header that does not parse")
        record = data[position + len(digits) + 1 : position + int(digits) - 1]
        name, _, value = record.partition(b"=")
        values[_text(name)] = _text(value)
        position += int(digits)
    return values


def _check_end(uri: str, stream: IO[bytes], at: int) -> None:
    """After the end of the members only zeros may follow."""
    while chunk := stream.read(BLOCK * 128):
        if rest := chunk.lstrip(b"\0"):
            where = at + len(chunk) - len(rest)
            raise _damaged(uri, where, "data follow the end of the tar; two tars joined by `cat`? Give them one by one")
        at += len(chunk)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _readable(name: str) -> str:
    r"""Bytes that are no UTF-8, which no table or JSON takes, become `\xNN`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _refusal(name: str, kind: bytes, size: int, sparse: bool) -> str:
    """Why a member must not be read: a link, a device, a name that leads out of the archive, a lie about its size; or ""."""
    if kind not in _PLAIN or sparse:
        return f"a {_KINDS.get(kind, 'member of an odd type')}; a shard holds plain files only"
    if name.startswith("/") or "\\" in name or name[1:2] == ":":
        return "its name is an absolute or foreign path"
    if ".." in name.split("/"):
        return "its name climbs out of the archive with .."
    if not name or any(unicodedata.category(letter) == "Cc" for letter in name):
        return "its name has control characters" if name else "it has no name"
    if size > MAX_MEMBER_BYTES:
        return f"{size} bytes, more than {MAX_MEMBER_BYTES}"
    return ""
