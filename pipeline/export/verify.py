"""Looks where pictures that were taken down still are: every file of some folders is searched for their names.

Also what a killed command left, tars of other releases, parts and crawls, tables, compressed lists, reports, and copies of the
picture files themselves.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from handface.pipeline.contract.lock import LOCK_NAME
from handface.pipeline.contract.names.url_names import url_name
from handface.pipeline.export.manifest import TOMBSTONES

_CHUNK = 8 << 20
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".heif")
# what follows an address and makes it another one; in doubt it is the same
_END = rb"(?![\w/%-]|\.\w)"


@dataclass(frozen=True)
class Remains:
    """A file that still holds a picture. name: the key, checksum or address that was found in it."""

    file: str
    name: str


def find_remains(folders: Sequence[str], tombstones: Iterable[Mapping[str, Any]]) -> Iterator[Remains]:
    """Search folders for what is named by tombstones.

    Args:
        folders: local folders, searched with all below them; single files too.
        tombstones: rows with key, uri, sha256, original_sha256, any of them None.

    Raises:
        FileNotFoundError: a folder that is not there.
    """
    wanted = _Wanted(tombstones)
    for folder in folders:
        if not Path(folder).exists():
            raise FileNotFoundError(f"{folder}: there is no such folder to look in")
        for path in _files(Path(folder)):
            # a file that ends or is replaced meanwhile
            with suppress(FileNotFoundError):
                for name in wanted.found_in(path):
                    yield Remains(str(path), name)


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, _, names in os.walk(root):
        for name in sorted(names):
            # the list of what was removed names it on purpose
            if name not in (TOMBSTONES, LOCK_NAME):
                yield Path(folder) / name


class _Wanted:
    """The names to look for, as one pattern."""

    def __init__(self, tombstones: Iterable[Mapping[str, Any]]) -> None:
        self.sums, self.addresses, texts = set[str](), set[str](), set[str]()
        for row in tombstones:
            texts |= {row[name] for name in ("key", "sha256", "original_sha256") if row.get(name)}
            self.sums |= {row[name] for name in ("sha256", "original_sha256") if row.get(name)}
            if row.get("uri"):
                self.addresses.add(url_name(row["uri"]))
        self.texts = texts | self.sums
        patterns = [re.escape(text.encode()) for text in sorted(self.texts)]
        patterns += [re.escape(text.encode()) + _END for text in sorted(self.addresses)]
        self._pattern = re.compile(b"|".join(patterns) or rb"(?!)", re.IGNORECASE)
        self._longest = max([len(text) for text in self.texts | self.addresses], default=0)

    def found_in(self, path: Path) -> list[str]:
        """The names that a file holds, in its own name or inside."""
        found = set(self._search(path.name.encode("utf-8", "surrogateescape")))
        if path.suffix == ".parquet":
            found |= set(self._in_table(path))
        elif path.suffix == ".gz":
            found |= set(self._in_compressed(path))
        else:
            with path.open("rb") as stream:
                found |= set(self._in_stream(stream))
        if path.suffix.lower() in _PICTURES:
            with path.open("rb") as stream:
                found |= {hashlib.file_digest(stream, "sha256").hexdigest()} & self.sums
        return sorted(found)

    def _search(self, data: bytes) -> Iterator[str]:
        for match in self._pattern.finditer(data):
            yield match[0].decode("utf-8", "replace").lower()

    def _in_stream(self, stream: IO[bytes] | gzip.GzipFile) -> Iterator[str]:
        tail = b""
        while chunk := stream.read(_CHUNK):
            yield from self._search(tail + chunk)
            tail = chunk[-self._longest :] if self._longest else b""

    def _in_compressed(self, path: Path) -> Iterator[str]:
        # a broken end: what could be read was searched
        with suppress(EOFError, gzip.BadGzipFile, zlib.error), gzip.open(path, "rb") as stream:
            yield from self._in_stream(stream)

    def _in_table(self, path: Path) -> Iterator[str]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path, pre_buffer=False) as file:
                for batch in file.iter_batches(use_threads=False):
                    for row in batch.to_pylist():
                        yield from self._search(repr(row).encode())
        except (pa.ArrowInvalid, OSError):
            with path.open("rb") as stream:
                yield from self._in_stream(stream)
