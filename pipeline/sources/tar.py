"""WebDataset tars, as img2dataset and others write them: each image member, with its .json and .txt as columns."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.shards import unsafe_member
from handface.pipeline.sources.base import SourceConfig
from handface.pipeline.sources.folder import IMAGE_SUFFIXES

TAR_SUFFIXES = (".tar",)
_SIDECARS = (".json", ".txt")
_MAX_SIDECAR = 1 << 20


@dataclass(frozen=True)
class TarSource:
    """Items point at their member's bytes (offset, size), so that a worker reads one without scanning the tar.

    An unsafe member (absolute path, `..`, link, device) is an item with a problem. Raises OSError where the tar breaks.
    """

    uri: str
    config: SourceConfig = field(default_factory=SourceConfig)

    def __iter__(self) -> Iterator[SourceItem]:
        import fsspec

        with fsspec.open(self.uri, "rb") as file:
            try:
                tar = tarfile.TarFile(fileobj=file)
            except tarfile.TarError as error:
                raise OSError(f"{self.uri} is not a tar: {error}") from error
            yield from self._groups(tar)

    def _groups(self, tar: tarfile.TarFile) -> Iterator[SourceItem]:
        """Members of one key stand next to each other; hold one key's image until its sidecars have been seen."""
        key, images, columns = "", list[tarfile.TarInfo](), dict[str, str]()
        while (member := _next(tar, self.uri)) is not None:
            if member.isdir():
                continue
            if problem := unsafe_member(member):
                yield SourceItem(
                    self.uri, member.name, problem=Reason.UNREADABLE, detail=f"unsafe tar member: {problem}"
                )
                continue
            stem, _, suffix = member.name.rpartition(".")
            if stem != key:
                yield from self._items(images, columns)
                key, images, columns = stem, [], {}
            if f".{suffix.lower()}" in IMAGE_SUFFIXES:
                images.append(member)
            elif f".{suffix.lower()}" in _SIDECARS and member.size <= _MAX_SIDECAR:
                columns |= self._sidecar(tar, member)
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header; a large shard would fill memory
        yield from self._items(images, columns)

    def _items(self, images: list[tarfile.TarInfo], columns: dict[str, str]) -> Iterator[SourceItem]:
        for image in images:
            yield SourceItem(self.uri, image.name, image.offset_data, image.size, tuple(sorted(columns.items())))

    def _sidecar(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, str]:
        file = tar.extractfile(member)
        text = file.read().decode(errors="replace") if file else ""
        if member.name.endswith(".txt"):
            return {"caption": text}
        try:
            values: Any = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        if not isinstance(values, dict):
            return {}
        rename = self.config.columns
        return {rename.get(str(k), str(k)): str(v) for k, v in values.items() if isinstance(v, str | int | float)}


def _next(tar: tarfile.TarFile, uri: str) -> tarfile.TarInfo | None:
    try:
        return tar.next()
    except tarfile.TarError as error:
        raise OSError(f"{uri}: broken after byte {tar.offset}: {error}") from error
