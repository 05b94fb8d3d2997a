"""Where every sample of a tar lies, so that any can be read without the ones before it; cached between runs.

A part's own table says it (`part-*.parquet` beside the tar); of other tars the headers are read, 512 bytes a member.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.names.addresses import filesystem_of
from handface.pipeline.contract.tar_index import ShardError, iter_allowed, iter_members, split_name, stream_length
from handface.pipeline.contract.user_cache import cache_folder, keep
from handface.trainers.data.shards.tar_walk import BLOCK, walk_headers
from handface.trainers.run_folder.storage import PATIENCE_S, with_retries

_VERSION = "3"
_AT_ONCE = 16  # remote shards
_RECORD = 10240  # a tar is filled up with zeros to a multiple of this
_TABLE_CHUNK = 1 << 16  # bytes of a remote table that are fetched at once
_COLUMNS = ("key", "offset", "size")

Offsets = NDArray[np.uint32]


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one tar.

    Attributes:
        uri: The tar.
        keys: (n,).
        starts: (n,) where each sample's first header begins, in blocks of 512 bytes.
        sizes: (n,) bytes from there to the end of its last member.
    """

    uri: str
    keys: tuple[str, ...]
    starts: Offsets
    sizes: Offsets


_Found = tuple[tuple[str, ...], Offsets, Offsets]


def index_shards(uris: Sequence[str], folder: str | None = None, patience: float = PATIENCE_S) -> list[ShardIndex]:
    """The indexes of shards, from `folder` where they are cached there and the shard is unchanged.

    Args:
        uris: Tars, paths or fsspec URIs.
        folder: Of the cache; `~/.cache/handface/shards` if not given.
        patience: Seconds for which storage that does not answer is tried again.

    Raises:
        FileNotFoundError: A shard is not there.
        ShardError: A shard is damaged or holds what it must not.
    """
    from rich.console import Console
    from rich.progress import track

    cache = Path(folder) if folder else cache_folder("shards")

    def index(uri: str) -> ShardIndex:
        return with_retries(uri, index_shard, uri, cache, patience_s=patience)

    console = Console(stderr=True)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        remote = any("://" in uri for uri in uris)
        found = pool.map(index, uris) if remote else map(index, uris)
        shown = track(
            found, "index shards", len(uris), console=console, transient=True, disable=not console.is_terminal
        )
        return list(shown)


def index_shard(uri: str, folder: Path) -> ShardIndex:
    """As `index_shards`, for one shard."""
    stamp = _stamp(uri)
    file = folder / f"{hashlib.sha256(_absolute(uri).encode()).hexdigest()[:32]}.safetensors"
    found = _load(file, stamp)
    if found is None:
        found = _read_table(uri, int(stamp["size"])) or scan_shard(uri)
        _save(file, stamp, found)
    return ShardIndex(uri, *found)


def scan_shard(uri: str) -> _Found:
    """Keys and places of a tar's samples, by its headers. Raises ShardError as `pipeline.shards.read_shard`."""
    if "://" not in uri and Path(uri).stat().st_size:
        with Path(uri).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            plain = walk_headers(view)
        if plain is not None:
            return _group(uri, plain)
    # only the headers are asked for, not what lies between them
    options = {} if "://" not in uri else {"cache_type": "none"}
    filesystem, path = filesystem_of(uri)
    with filesystem.open(path, "rb", **options) as stream:
        members = iter_allowed(uri, iter_members(uri, stream, stream_length(stream)))
        return _group(uri, ((m.name, m.start, m.offset, m.size) for m in members))


def _group(uri: str, headers: Iterable[tuple[str, int, int, int]]) -> _Found:
    """Neighbouring members with one key are one sample, as in `read_shard`."""
    keys: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    seen: set[str] = set()
    extensions: set[str] = set()
    for name, start, data, size in headers:
        key, extension = split_name(name)
        if not keys or key != keys[-1]:
            if key in seen:
                raise ShardError(f"{uri}: key {key} is there twice, in two places")
            seen.add(key)
            keys.append(key)
            starts.append(start)
            ends.append(0)
            extensions = set()
        if extension in extensions:
            raise ShardError(f"{uri}: member {name} is there twice")
        extensions.add(extension)
        ends[-1] = data + size
    return tuple(keys), *_offsets(uri, np.array(starts, np.int64), np.array(ends, np.int64))


def _offsets(uri: str, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> tuple[Offsets, Offsets]:
    """Places in their compact form. Raises ShardError for a tar beyond 2 TB or a sample beyond 4 GB."""
    blocks, sizes = starts // BLOCK, ends - starts
    if len(starts) and max(int(blocks[-1]), int(sizes.max())) >= 1 << 32:
        raise ShardError(f"{uri}: larger than 2 TB, or a sample of 4 GB; split it")
    return blocks.astype(np.uint32), sizes.astype(np.uint32)


def _read_table(uri: str, length: int) -> _Found | None:
    """Places from the part's own table beside the tar; None without one, or if it does not fit the tar exactly."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not uri.endswith(".tar"):
        return None
    filesystem, path = filesystem_of(uri.removesuffix(".tar") + ".parquet")
    options = {} if "://" not in uri else {"block_size": _TABLE_CHUNK}
    try:
        with filesystem.open(path, "rb", **options) as stream:
            file = pq.ParquetFile(stream)
            if not set(_COLUMNS) <= set(file.schema_arrow.names):
                return None
            table = file.read(list(_COLUMNS), use_threads=False)
    except (FileNotFoundError, pa.ArrowInvalid):
        return None
    except OSError as error:
        # pyarrow's own, of a damaged footer; what the disk or the store says has a number, or is a time that ran out
        if error.errno is not None or isinstance(error, TimeoutError):
            raise
        return None
    table = table.filter(table["offset"].is_valid()).sort_by("offset")
    starts = table["offset"].to_numpy().astype(np.int64)
    ends = starts + table["size"].to_numpy().astype(np.int64)
    if not len(starts) or starts[0] != 0 or (starts % BLOCK).any() or (starts[1:] != ends[:-1]).any():
        return None
    if not 2 * BLOCK <= length - ends[-1] <= _RECORD + BLOCK:
        return None
    return tuple(table["key"].to_pylist()), *_offsets(uri, starts, ends)


# --- the cache: one safetensors file per shard ---


def _load(file: Path, stamp: dict[str, str]) -> _Found | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as stored:
            if stored.metadata() != stamp:
                return None
            text = stored.get_tensor("keys").tobytes().decode()
            keys = tuple(text.split("\n")) if text else ()
            return keys, stored.get_tensor("starts"), stored.get_tensor("sizes")
    except (OSError, SafetensorError, UnicodeDecodeError):
        return None  # not there, or not whole: read the tar again


def _save(file: Path, stamp: dict[str, str], index: _Found) -> None:
    from safetensors.numpy import save

    keys, starts, sizes = index
    tensors: dict[str, NDArray[Any]] = {
        "keys": np.frombuffer("\n".join(keys).encode(), np.uint8),
        "starts": starts,
        "sizes": sizes,
    }
    keep(file, save(tensors, metadata=stamp))  # ranks may write the same index at once


def _stamp(uri: str) -> dict[str, str]:
    """What changes when the shard does. Raises FileNotFoundError naming it."""
    filesystem, path = filesystem_of(uri)
    try:
        info = filesystem.info(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{uri}: no such shard") from error
    times = [info[name] for name in ("mtime", "ETag", "etag", "LastModified", "created") if info.get(name) is not None]
    return {"version": _VERSION, "size": str(info.get("size")), "changed": str(times[0] if times else "")}


def _absolute(uri: str) -> str:
    filesystem, path = filesystem_of(uri)
    return str(filesystem.unstrip_protocol(path))
