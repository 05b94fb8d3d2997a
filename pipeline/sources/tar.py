"""WebDataset tars, as img2dataset and others write them: each image member, with its .json and .txt as columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from sys import intern
from typing import IO

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.tar_index import Member, ShardError, iter_members, read_data, stream_length
from handface.pipeline.fetch.opening import open_remote
from handface.pipeline.sources.base import Notes, SourceConfig
from handface.pipeline.sources.columns import sidecar_columns
from handface.pipeline.sources.folder import IMAGE_SUFFIXES

TAR_SUFFIXES = (".tar",)
PACKED_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".zip", ".7z", ".rar")
_SIDECARS = ("json", "txt")
_LABELS = ("depth.png", "mask.png")  # of our own samples: pictures, but no photos
_MAX_SIDECAR = 1 << 20


@dataclass
class _Group:
    """The members of one key."""

    images: list[Member | SourceItem] = field(default_factory=list)
    columns: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # a sidecar's extension without its suffix -> values


@dataclass(frozen=True)
class PackedSource:
    """A compressed archive, in which no member can be found by its offset: an error that says how to unpack it."""

    uri: str

    def __iter__(self) -> Iterator[SourceItem]:
        zipped = self.uri.lower().endswith((".zip", ".7z", ".rar"))
        advice = (
            "unpack it and give the folder" if zipped else "unpack it (`gzip -d`, `zstd -d`, ...) and give the .tar"
        )
        raise ValueError(f"{self.uri}: compressed, so that members cannot be read one by one; {advice}")
        yield


@dataclass(frozen=True)
class TarSource:
    """Items point at their member's bytes (offset, size), so that a worker reads one without scanning the tar.

    A sample's members belong together wherever in the tar they stand. Of our own samples only the `.jpg` is an input, and their
    provenance travels. A member that must not be read (absolute path, `..`, link, device) is an item with a problem.
    Raises ShardError naming tar and byte where the tar breaks, after the items before it.
    """

    uri: str
    config: SourceConfig = field(default_factory=SourceConfig)
    notes: Notes = field(default_factory=Notes, compare=False)

    def __iter__(self) -> Iterator[SourceItem]:
        self.notes.rows[self.uri] = 0
        groups: dict[str, _Group] = {}
        broken: ShardError | None = None
        with open_remote(self.uri) as file:
            try:
                for member in iter_members(self.uri, file, stream_length(file)):
                    self._add(groups, member, file)
            except ShardError as error:
                broken = error
        self.notes.rows[self.uri] = len(groups)
        for group in groups.values():
            yield from self._items(group)
        if broken is not None:
            raise broken

    def _add(self, groups: dict[str, _Group], member: Member, file: IO[bytes]) -> None:
        if member.is_folder:
            return
        if member.is_hidden:
            self.notes.ignored["hidden"] += 1
            return
        group = groups.setdefault(member.key, _Group())
        if member.problem:
            detail = f"unsafe tar member: {member.problem}"
            group.images.append(SourceItem(self.uri, member.name, problem=Reason.UNREADABLE, detail=detail))
            return
        stem, _, suffix = member.extension.rpartition(".")
        if f".{suffix}" in IMAGE_SUFFIXES:
            group.images.append(member)
        elif suffix in _SIDECARS and member.size <= _MAX_SIDECAR:
            values = sidecar_columns(suffix, read_data(self.uri, file, member), self.config.columns)
            group.columns.setdefault(stem, {}).update((intern(name), value) for name, value in values.items())

    def _items(self, group: _Group) -> Iterator[SourceItem]:
        photos = [image for image in group.images if isinstance(image, SourceItem) or image.extension not in _LABELS]
        # `0001.rgb.jpg` has the columns of `0001.json`, and those of `0001.rgb.json` where that is there; a lone sidecar counts.
        lone = next(iter(group.columns.values())) if len(photos) == len(group.columns) == 1 else {}
        for image in photos or group.images:
            if isinstance(image, SourceItem):
                yield image
                continue
            own = group.columns.get(image.extension.rpartition(".")[0], {})
            columns = lone | group.columns.get("", {}) | own
            yield SourceItem(self.uri, image.name, image.offset, image.size, tuple(sorted(columns.items())))
