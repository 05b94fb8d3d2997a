"""Reads and writes WebDataset shards: plain tars of samples, reproducible when written, safe when read.

Imports nothing of the pipeline but the sample contract, so that trainers can stand on it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO

from handface.pipeline.contract.sample import Sample, SampleError, decode, encode

MAX_MEMBER_BYTES = 64 << 20  # a sample has no member above 1 MB; guards memory against a header that lies
_MODE = 0o644
_KINDS = {
    tarfile.SYMTYPE: "symbolic link",
    tarfile.LNKTYPE: "hard link",
    tarfile.DIRTYPE: "folder",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}


class ShardError(ValueError):
    """A shard is damaged or holds what a shard must not; the message names the file and the member."""


def write_shard(stream: IO[bytes], samples: Iterable[Sample]) -> None:
    """Write samples as a USTAR archive without times and owners: equal samples give equal bytes."""
    write_members(stream, ((sample.key, encode(sample)) for sample in samples))


def write_members(stream: IO[bytes], groups: Iterable[tuple[str, dict[str, bytes]]]) -> dict[str, tuple[int, int]]:
    """Write (key, {extension: bytes}) groups in the same reproducible way.

    Returns where each lies, headers and padding included: {key: (offset, size)}, bytes of the tar.
    """
    places: dict[str, tuple[int, int]] = {}
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, members in groups:
            start = tar.offset
            for extension, data in members.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size, member.mode = len(data), _MODE  # mtime, uid, gid and names keep their zeros
                tar.addfile(member, io.BytesIO(data))
            places[key] = start, tar.offset - start
    return places


def read_shard(uri: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Stream a shard's samples as (key, {extension: bytes}), neighbouring members with one key being one sample.

    uri: path or fsspec URI.  Raises OSError if it cannot be opened, ShardError naming the member for links, devices, folders,
    names that leave the archive, repeated members or keys, and archives that are damaged or cut off.
    """
    import fsspec

    with fsspec.open(uri, "rb") as stream:
        yield from _samples(uri, stream)


def iter_samples(uri: str) -> Iterator[Sample]:
    """Stream a shard's samples, decoded. Raises ShardError as `read_shard`, and for a sample that breaks the contract."""
    for key, members in read_shard(uri):
        try:
            yield decode(members)
        except SampleError as error:
            raise ShardError(f"{uri}: sample {key}: {error}") from error


def find_shards(arguments: Iterable[str]) -> list[str]:
    """Files as given; folders and globs become the tars in them, sorted. Raises FileNotFoundError for what names nothing."""
    import fsspec

    found: list[str] = []
    for argument in arguments:
        filesystem, path = fsspec.core.url_to_fs(argument)
        if filesystem.isfile(path):
            found.append(argument)
            continue
        pattern = f"{path.rstrip('/')}/**/*.tar" if filesystem.isdir(path) else path
        matches = sorted(filesystem.glob(pattern))
        if not matches:
            raise FileNotFoundError(f"{argument}: no shard there (expected a .tar file, a folder of them, or a glob)")
        remote = "://" in argument
        found += [filesystem.unstrip_protocol(match) if remote else match for match in matches]
    return found


def _samples(uri: str, stream: IO[bytes]) -> Iterator[tuple[str, dict[str, bytes]]]:
    key, members, seen = "", dict[str, bytes](), set[str]()
    for name, data in _members(uri, stream):
        folder, slash, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        stem = folder + slash + stem
        if stem != key:
            if members:
                yield key, members
            if stem in seen:
                raise ShardError(f"{uri}: key {stem} is there twice, in two places")
            seen.add(stem)
            key, members = stem, {}
        if extension in members:
            raise ShardError(f"{uri}: member {name} is there twice")
        members[extension] = data
    if members:
        yield key, members


def _members(uri: str, stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for info in tar:
                if problem := unsafe_member(info):
                    raise ShardError(f"{uri}: member {info.name!r} refused: {problem}")
                member = tar.extractfile(info)
                data = b"" if member is None else member.read()
                if len(data) != info.size:
                    raise tarfile.ReadError(f"member {info.name} is cut off")
                yield info.name, data
    except (tarfile.TarError, EOFError, OverflowError) as error:
        raise ShardError(f"{uri}: damaged or cut off ({error})") from error


def unsafe_member(info: tarfile.TarInfo) -> str:
    """Why a member must not be read: a link, a device, a name that leads out of the archive, a lie about its size; or ""."""
    name = info.name
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or info.sparse is not None:
        return f"a {_KINDS.get(info.type, 'member of an odd type')}; a shard holds plain files only"
    if name.startswith("/") or "\\" in name or name[1:2] == ":":
        return "its name is an absolute or foreign path"
    if ".." in name.split("/"):
        return "its name climbs out of the archive with .."
    if not name.isprintable():
        return "its name has control characters"
    if not 0 <= info.size <= MAX_MEMBER_BYTES:
        return f"{info.size} bytes, more than {MAX_MEMBER_BYTES}"
    return ""
