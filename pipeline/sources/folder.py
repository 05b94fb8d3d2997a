"""A folder tree, local or in storage: which files in it are inputs, and how many are not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.names.addresses import filesystem_of
from handface.pipeline.contract.names.patterns import is_remote, local

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".heic", ".heif", ".hif", ".ppm", ".pgm", ".pbm", ".pnm"),
)


@dataclass(frozen=True)
class FileSource:
    """One file or URL, whatever its name says."""

    uri: str

    def __iter__(self) -> Iterator[SourceItem]:
        yield SourceItem(self.uri)


def walk_folder(uri: str, ignored: Counter[str]) -> Iterator[str]:
    """Files below a folder in name order, directory by directory; hidden ones are counted in `ignored`."""
    if not is_remote(uri):
        yield from _walk(os.fspath(local(uri)), ignored)
        return
    filesystem: AbstractFileSystem
    filesystem, path = filesystem_of(uri)
    for folder, folders, files in filesystem.walk(path, detail=True):
        hidden = folder[len(path) :].find("/.") >= 0
        folders_kept = {name: info for name, info in sorted(folders.items()) if not name.startswith(".")}
        folders.clear()
        folders.update(folders_kept)
        for name, info in sorted(files.items()):
            if hidden or name.startswith("."):
                ignored["hidden"] += 1
            else:
                yield filesystem.unstrip_protocol(info["name"])


def ignored_kind(name: str) -> str:
    """What a file that is no input is counted as: its suffix."""
    base = name.rpartition("/")[2].lower()
    for double in (".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst"):
        if base.endswith(double):
            return double
    stem, dot, suffix = base.rpartition(".")
    return f".{suffix}" if dot and stem and len(suffix) <= 8 else "without a suffix"


def _walk(folder: str, ignored: Counter[str]) -> Iterator[str]:
    """Only one directory's names are held at a time."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        path = os.path.join(folder, name)  # noqa: PTH118  (a million Path objects cost seconds)
        if name.startswith("."):
            ignored["hidden"] += 1
        elif is_folder:
            yield from _walk(path, ignored)
        elif os.path.isdir(path):  # noqa: PTH112
            ignored["link to a folder"] += 1
        else:
            yield path
