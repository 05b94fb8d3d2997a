"""A folder tree, a glob pattern, or one file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from handface.pipeline.contract.inputs import SourceItem

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


@dataclass(frozen=True)
class FileSource:
    """One file or URL, whatever its name says."""

    uri: str

    def __iter__(self) -> Iterator[SourceItem]:
        yield SourceItem(self.uri)


@dataclass(frozen=True)
class FolderSource:
    """Images under a folder in name order, directory by directory; all matches of a pattern; or a single file.

    Inside a folder only names that look like images are taken; files named by the user or by a pattern always are.
    Local paths and any fsspec URI.  Raises FileNotFoundError if nothing is there.
    """

    uri: str

    def __iter__(self) -> Iterator[SourceItem]:
        if "://" in self.uri and not self.uri.startswith("file://"):
            yield from self._remote()
            return
        path = Path(self.uri.removeprefix("file://")).expanduser()
        if path.is_dir():
            yield from (SourceItem(name) for name in _walk(os.fspath(path)))
        elif path.exists():
            yield SourceItem(os.fspath(path))
        elif any(c in self.uri for c in "*?["):
            import glob

            yield from (SourceItem(name) for name in sorted(glob.iglob(os.fspath(path), recursive=True)))  # noqa: PTH207  (Path.glob takes no absolute pattern)
        else:
            raise FileNotFoundError(self.uri)

    def _remote(self) -> Iterator[SourceItem]:
        import fsspec

        filesystem: AbstractFileSystem
        filesystem, path = fsspec.core.url_to_fs(self.uri)
        if any(c in self.uri for c in "*?["):
            names: Iterable[str] = sorted(filesystem.glob(path))
        elif filesystem.isdir(path):
            names = (name for _, _, files in filesystem.walk(path, detail=True) for name in _image_paths(files))
        elif filesystem.exists(path):
            names = [path]
        else:
            raise FileNotFoundError(self.uri)
        yield from (SourceItem(filesystem.unstrip_protocol(name)) for name in names)


def _walk(folder: str) -> Iterator[str]:
    """Image files below a folder, entries of each directory in name order; only one directory's names are held at a time."""
    with os.scandir(folder) as entries:
        found = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in found:
        path = os.path.join(folder, name)  # noqa: PTH118  (a million Path objects cost seconds)
        if is_folder:
            yield from _walk(path)
        elif name.lower().endswith(IMAGE_SUFFIXES):
            yield path


def _image_paths(files: dict[str, dict[str, str]]) -> list[str]:
    return sorted(info["name"] for name, info in files.items() if name.lower().endswith(IMAGE_SUFFIXES))
