"""Names with braces and wildcards: `shards/{00..09}.tar`, `lists/*.parquet`, on disks and in storage, quoted or not."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from handface.pipeline.contract.names.addresses import filesystem_of
from handface.pipeline.contract.names.url_names import is_web

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WILD = re.compile(r"[*?\[]")
_MOST = 1_000_000  # names that one pair of braces may stand for


def expand(argument: str) -> Iterator[str]:
    """What an argument names: itself if it is there as written, else its braces and wildcards filled in, sorted.

    Brackets in the name of a folder that exists are letters, not a pattern. A name without braces and wildcards comes back as it
    is, there or not.

    Raises:
        FileNotFoundError: A pattern matches nothing.
        ValueError: Braces stand for more than a million names.
    """
    if is_web(argument) or not (_BRACES.search(argument) or _WILD.search(argument)):
        yield from expand_braces(argument) if is_web(argument) else [argument]
        return
    if _exists(argument):
        yield argument
        return
    for name in expand_braces(argument):
        if not _WILD.search(name):
            yield name
            continue
        matches = _glob(name)
        if not matches:
            raise FileNotFoundError(f"{name}: nothing matches this pattern")
        yield from matches


def nothing_there(argument: str, wanted: str) -> str:
    """What to say of a file, folder or pattern in which nothing was found. wanted: what is missing, if the place itself is there."""
    plain = not (is_remote(argument) or _BRACES.search(argument) or _WILD.search(argument))
    return f"{argument}: no such file or folder" if plain and not _exists(argument) else f"{argument}: {wanted}"


def expand_braces(text: str) -> Iterator[str]:
    """`{a,b}` and `{00..09}` as in shells and webdataset; the zeros of the first number give the width. Others stay as they are."""
    for found in _BRACES.finditer(text):
        choices = _choices(found[1])
        if choices is not None:
            for choice in choices:
                for rest in expand_braces(text[found.end() :]):
                    yield text[: found.start()] + choice + rest
            return
    yield text


def is_remote(argument: str) -> bool:
    """Whether an argument is a URI of a storage or of the web, not a path or `file://`."""
    return "://" in argument and not argument.startswith("file://")


def local(argument: str) -> Path:
    """The path of a local argument."""
    return Path(argument.removeprefix("file://")).expanduser()


def _choices(inside: str) -> Iterator[str] | None:
    if found := _RANGE.fullmatch(inside):
        first, last = int(found[1]), int(found[2])
        if abs(last - first) >= _MOST:
            raise ValueError(f"{{{inside}}} stands for more than {_MOST:,} names")
        step = 1 if last >= first else -1
        return (f"{number:0{len(found[1])}d}" for number in range(first, last + step, step))
    return iter(inside.split(",")) if "," in inside else None


def _exists(argument: str) -> bool:
    if not is_remote(argument):
        return local(argument).exists()
    filesystem, path = filesystem_of(argument)
    return bool(filesystem.exists(path))


def _glob(pattern: str) -> list[str]:
    if not is_remote(pattern):
        escaped = _escape_folders(str(local(pattern)), lambda folder: Path(folder).is_dir())
        return sorted(glob.glob(escaped, recursive=True))  # noqa: PTH207  (Path.glob takes no absolute pattern)
    filesystem: AbstractFileSystem
    filesystem, path = filesystem_of(pattern)
    escaped = _escape_folders(path, lambda folder: bool(filesystem.isdir(folder)))
    names = (name for name in sorted(filesystem.glob(escaped)) if "/." not in name[len(path.partition("*")[0]) - 1 :])
    return [filesystem.unstrip_protocol(name) for name in names]


def _escape_folders(pattern: str, is_folder: Callable[[str], bool]) -> str:
    """Square brackets in the names of leading folders that exist as written become `[[]`."""
    parts = pattern.split("/")
    for count in range(len(parts) - 1, 0, -1):
        head = "/".join(parts[:count])
        if "[" in head and not re.search(r"[*?]", head) and is_folder(head):
            return "/".join([head.replace("[", "[[]"), *parts[count:]])
    return pattern
