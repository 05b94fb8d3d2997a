"""Reads and writes WebDataset shards: plain tars of samples, reproducible when written, safe when read.

Imports nothing of the pipeline but the contract, so that trainers can stand on it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from typing import IO

from handface.pipeline.contract.names.addresses import filesystem_of, open_file
from handface.pipeline.contract.names.patterns import expand, nothing_there
from handface.pipeline.contract.sample import Sample, SampleError, decode
from handface.pipeline.contract.storage import naming
from handface.pipeline.contract.tar_index import (
    Member,
    ShardError,
    group_samples,
    iter_allowed,
    iter_members,
    read_data,
    stream_length,
)

__all__ = ["ShardError", "find_shards", "iter_samples", "read_shard", "write_members"]

_MODE = 0o644


def write_members(stream: IO[bytes], groups: Iterable[tuple[str, dict[str, bytes]]]) -> dict[str, tuple[int, int]]:
    """Write (key, {extension: bytes}) groups as a USTAR archive without times and owners: equal groups give equal bytes.

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
    with open_file(uri) as stream:
        yield from group_samples(uri, _members(uri, stream))


def iter_samples(uri: str) -> Iterator[Sample]:
    """Stream a shard's samples, decoded. Raises ShardError as `read_shard`, and for a sample that breaks the contract."""
    for key, members in read_shard(uri):
        try:
            yield decode(members)
        except SampleError as error:
            raise ShardError(f"{uri}: sample {key}: {error}") from error


def find_shards(arguments: Iterable[str]) -> list[str]:
    """Files as given; folders and globs become the tars in them, sorted. Raises FileNotFoundError for what names nothing."""
    found: list[str] = []
    for argument in arguments:
        with naming(argument):
            matches = [tar for name in _expand(argument) for tar in _tars(name)]
        if not matches:
            wanted = "no shard there (expected a .tar file, a folder of them, or a glob)"
            raise FileNotFoundError(nothing_there(argument, wanted))
        found += matches
    return found


def _expand(argument: str) -> Iterator[str]:
    try:
        yield from expand(argument)
    except FileNotFoundError:
        return


def _tars(name: str) -> list[str]:
    """A file itself; the tars below a folder in name order; nothing for what is not there."""
    filesystem, path = filesystem_of(name)
    if filesystem.isfile(path):
        return [name]
    if not filesystem.isdir(path):
        return []
    inside = sorted(file for file in filesystem.find(path) if file.endswith(".tar") and "/." not in file[len(path) :])
    return [filesystem.unstrip_protocol(file) if "://" in name else file for file in inside]


def _members(uri: str, stream: IO[bytes]) -> Iterator[tuple[Member, bytes]]:
    for member in iter_allowed(uri, iter_members(uri, stream, stream_length(stream))):
        yield member, read_data(uri, stream, member)
