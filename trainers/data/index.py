"""Where every member of a tar lies, so that any sample can be read without the ones before it; cached between runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.tar_index import group_samples, iter_allowed, iter_members, stream_length

MEMBERS = ("jpg", "safetensors", "mask.png")  # what training reads, in this order in `ShardIndex.members`
_VERSION = "2"
_ABSENT = -1


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one tar. keys: (n,).  members: (n, 3, 2) int64 offset and length of each of MEMBERS, -1 where absent."""

    uri: str
    keys: tuple[str, ...]
    members: NDArray[np.int64]


def index_shards(uris: Sequence[str], folder: str | None = None) -> list[ShardIndex]:
    """The indexes of shards, from `folder` where they are cached there and the shard is unchanged, else by reading their headers.

    Raises FileNotFoundError naming a shard that is not there, ShardError for one that is damaged or holds what it must not.
    """
    from rich.console import Console
    from rich.progress import track

    cache = Path(folder) if folder else _default_folder()
    console = Console(stderr=True)
    shown = track(uris, "index shards", console=console, transient=True, disable=not console.is_terminal)
    return [index_shard(uri, cache) for uri in shown]


def index_shard(uri: str, folder: Path) -> ShardIndex:
    """As `index_shards`, for one shard."""
    stamp = _stamp(uri)
    file = folder / f"{hashlib.sha256(_absolute(uri).encode()).hexdigest()[:32]}.safetensors"
    found = _load(file, stamp)
    if found is None:
        found = scan_shard(uri)
        _save(file, stamp, found)
    return ShardIndex(uri, *found)


def scan_shard(uri: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Keys and members of a tar, by its headers. Raises ShardError as `pipeline.shards.read_shard`."""
    import fsspec

    keys: list[str] = []
    rows: list[NDArray[np.int64]] = []
    with fsspec.open(uri, "rb") as stream:
        members = iter_allowed(uri, iter_members(uri, stream, stream_length(stream)))
        for key, sample in group_samples(uri, ((member, (member.offset, member.size)) for member in members)):
            keys.append(key)
            rows.append(np.array([sample.get(name, (_ABSENT, _ABSENT)) for name in MEMBERS], np.int64))
    return tuple(keys), np.stack(rows) if rows else np.zeros((0, len(MEMBERS), 2), np.int64)


# --- the cache: one safetensors file per shard ---


def _load(file: Path, stamp: dict[str, str]) -> tuple[tuple[str, ...], NDArray[np.int64]] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as stored:
            if stored.metadata() != stamp:
                return None
            text = stored.get_tensor("keys").tobytes().decode()
            return tuple(text.split("\n")) if text else (), stored.get_tensor("members")
    except (OSError, SafetensorError, UnicodeDecodeError):
        return None  # not there, or not whole: read the tar again


def _save(file: Path, stamp: dict[str, str], index: tuple[tuple[str, ...], NDArray[np.int64]]) -> None:
    from safetensors.numpy import save

    keys, members = index
    blob = save({"keys": np.frombuffer("\n".join(keys).encode(), np.uint8), "members": members}, metadata=stamp)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")  # ranks may write the same index at once
    partial.write_bytes(blob)
    partial.replace(file)


def _stamp(uri: str) -> dict[str, str]:
    """What changes when the shard does. Raises FileNotFoundError naming it."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(uri)
    try:
        info = filesystem.info(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{uri}: no such shard") from error
    times = [info[name] for name in ("mtime", "ETag", "etag", "LastModified", "created") if info.get(name) is not None]
    return {"version": _VERSION, "size": str(info.get("size")), "changed": str(times[0] if times else "")}


def _absolute(uri: str) -> str:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(uri)
    return str(filesystem.unstrip_protocol(path))


def _default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "handface" / "shards"
