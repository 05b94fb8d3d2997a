"""Takes samples out of a release: tombstone first, then the shards without them, then index, card and manifest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.contract.exclusion import ORIGINAL_SHA256, Exclusion, parse_hex
from handface.pipeline.contract.images.phash import hash_hex, parse_hash
from handface.pipeline.contract.lock import lock_folder
from handface.pipeline.contract.names.url_names import is_web, url_name
from handface.pipeline.contract.sample import KEY_LENGTH, is_hex
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import dump_table, load_table
from handface.pipeline.export.catalogue import ExportError, reader
from handface.pipeline.export.extents import Extent, sample_extents
from handface.pipeline.export.manifest import DROPPED, TOMBSTONES, ReleaseFile, read_release
from handface.pipeline.export.metadata.coco import coco_folders, remove_pictures
from handface.pipeline.export.metadata.index import index_schema, index_tables
from handface.pipeline.export.release import LOCK_WAIT_S, file_info, publish
from handface.pipeline.export.rows import perceptual_hashes, row_names
from handface.pipeline.export.select import near_any
from handface.pipeline.export.write import PIECE, Copier, Shard

if TYPE_CHECKING:
    import pyarrow as pa

# columns that name a picture
_NAMES = ("key", "uri", "sha256", ORIGINAL_SHA256, "phash")
_COLUMNS = (*_NAMES, "reason", "date")
_REWRITTEN = re.compile(r"(?:-r\d+)?\.tar$")


@dataclass(frozen=True)
class TakedownRequest:
    """What to take down; a sample that any of them names goes.

    urls: in any spelling; where a picture was asked for, where it moved from, or where it was found in the end.
    sha256: of the stored file or of the original that its owner has.
    phash: copies within `distance` bits go too.
    """

    keys: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    sha256: tuple[str, ...] = ()
    phash: tuple[str, ...] = ()
    distance: int = 6
    reason: str = "requested"

    def __post_init__(self) -> None:
        if not (self.keys or self.urls or self.sha256 or self.phash):
            raise ValueError("nothing to take down: give --url, --sha256, --phash, --key or --image")
        # what is written once stays searched for: a typing error must not get there
        for name, flag, digits in (("keys", "--key", KEY_LENGTH), ("sha256", "--sha256", 64)):
            object.__setattr__(self, name, tuple(parse_hex(value) for value in getattr(self, name)))
            for value in getattr(self, name):
                if not is_hex(value, digits):
                    raise ValueError(f"{flag} {value!r}: expected {digits} hex digits")
        for value in self.urls:
            if not is_web(value.strip()):
                raise ValueError(
                    f"--url {value!r}: no web address; a file of this machine is named by --image, a sample by --key"
                )
        for value in self.phash:
            try:
                parse_hash(value)
            except ValueError as error:
                raise ValueError(f"--phash {value!r}: expected 16 hex digits") from error
        object.__setattr__(self, "phash", tuple(hash_hex(parse_hash(value)) for value in self.phash))

    def names(self) -> Exclusion:
        """The request as a list of names; its hashes are compared within `distance` bits."""
        hashes = np.array([parse_hash(value) for value in self.phash], np.uint64)
        uris = frozenset(url_name(url) for url in self.urls)
        return Exclusion("the request", frozenset(self.keys), frozenset(self.sha256), uris, hashes)


@dataclass(frozen=True)
class Takedown:
    """What was done.

    keys: samples removed, those an interrupted takedown had struck from the index left out.
    shards: files rewritten under a new name, or removed because nothing was left in them.
    pictures: files removed from COCO folders.
    """

    keys: tuple[str, ...]
    shards: tuple[str, ...]
    revision: int
    pictures: int = 0


def take_down(output: str, request: TakedownRequest, date: str, coco: tuple[str, ...] = ()) -> Takedown:
    """Remove what a request names from a release.

    The tombstone is written first and also holds what the request says when nothing matches, so that later crawls, exports and
    loaders that are given `tombstones.parquet` leave it out. Killed half-way, the same command finishes the work.

    Args:
        output: folder of the release.
        request: what goes.
        date: ISO day for the tombstone.
        coco: folders written by `export --coco`, besides the one that the release remembers.

    Raises:
        ExportError: there is no release.
        LockedError: another command writes there for too long.
    """
    folder = Folder(output)
    if read_release(folder) is None:
        raise ExportError(f"{output}: holds no release ({output}/manifest.json is missing)")
    with lock_folder(folder, "takedown", LOCK_WAIT_S):
        return _take_down(folder, request, date, coco)


def _take_down(folder: Folder, request: TakedownRequest, date: str, coco: tuple[str, ...]) -> Takedown:
    there = read_release(folder)
    assert there is not None
    rows = _rows_to_remove(folder, request)
    _write_tombstones(folder, rows, request, date)
    gone = {row["key"] for row in rows}
    tombstoned = {key for row in read_tombstones(folder) if (key := row["key"])}
    pictures = sum(remove_pictures(one, tombstoned) for one in (*coco_folders(folder), *coco))
    files = {name: info for name, info in there.files.items() if info.samples}
    sizes = folder.sizes(suffix=".tar")
    begun = {name for name, info in files.items() if sizes.get(name) != info.bytes}  # an interrupted takedown's
    hit = sorted(begun | {row["shard"] for row in rows} & set(files))
    _strike_dropped(folder, tombstoned)
    if not hit:
        lists = [name for name in (TOMBSTONES, DROPPED) if folder.exists(name)]
        if any(there.files.get(name) != file_info(folder, name) for name in lists):
            publish(folder, replace(there, files=files), index_tables(folder), index_schema(folder))
        return Takedown((), (), there.revision, pictures)
    names = {name: _REWRITTEN.sub(f"-r{there.revision + 1}.tar", name) for name in hit}
    for old, new in names.items():
        shard = _rewrite(folder, old, new, files.pop(old).split, tombstoned)
        if len(shard.pieces):
            files[new] = ReleaseFile(shard.bytes, shard.sha256, len(shard.pieces), shard.split)
    counts: Counter[str] = Counter()
    for info in files.values():
        counts[info.split] += info.samples
    removed = sum(there.samples.values()) - counts.total()
    made = replace(
        there,
        revision=there.revision + 1,
        samples={split: counts[split] for split in there.samples},
        dropped=there.dropped | {"taken_down": there.dropped.get("taken_down", 0) + removed},
        files=dict(sorted(files.items())),
    )
    left = _rows_left(folder, tombstoned, names)
    revision = publish(folder, made, left, index_schema(folder)).revision
    return Takedown(tuple(sorted(gone)), tuple(hit), revision, pictures)


def _rows_to_remove(folder: Folder, request: TakedownRequest) -> list[dict[str, Any]]:
    """The index's rows that the request names, and those whose tombstone an interrupted takedown left behind."""
    listed, tombstoned = request.names(), {row["key"] for row in read_tombstones(folder)}
    columns = [*_NAMES, "columns", "evidence", "shard"]
    found = []
    for table in index_tables(folder, columns):
        near = near_any(perceptual_hashes(table), listed.phash, request.distance)
        for number, row in enumerate(table.to_pylist()):
            sums = {row["sha256"], row[ORIGINAL_SHA256]}
            named = listed.names(row["uri"], sums, 0, row["key"], row_names(row))
            if near[number] or named or row["key"] in tombstoned:
                found.append(row)
    return found


def _rows_left(folder: Folder, gone: set[str], names: dict[str, str]) -> Iterator[pa.Table]:
    """The index without some keys; shards by their new names, samples at their new places: in a shard one behind the other."""
    import pyarrow as pa

    ends: dict[str, int] = {}
    for table in index_tables(folder):
        table = table.filter(pa.array([key not in gone for key in table["key"].to_pylist()], pa.bool_()))
        offsets, shards = [], [names.get(name, name) for name in table["shard"].to_pylist()]
        for shard, size in zip(shards, table["size"].to_pylist(), strict=True):
            offsets.append(ends.get(shard, 0))
            ends[shard] = offsets[-1] + size
        for name, column in (("offset", pa.array(offsets, pa.int64())), ("shard", pa.array(shards, pa.string()))):
            table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
        if len(table):
            yield table


def _write_tombstones(folder: Folder, rows: list[dict[str, Any]], request: TakedownRequest, date: str) -> None:
    """Add tombstones for the rows, for their other addresses and for the request itself; what is there already stays once."""
    import pyarrow as pa

    note = {"reason": request.reason, "date": date}
    tombstones = read_tombstones(folder)
    new: list[dict[str, Any]] = [{name: row[name] for name in _NAMES} | note for row in rows]
    said = {_name(column, row.get(column)) for row in new + tombstones for column in _NAMES}
    others = [("uri", name) for row in rows for name in sorted(row_names(row)) if is_web(f"http://{name}")]
    asked = {"key": request.keys, "uri": request.urls, "sha256": request.sha256, "phash": request.phash}
    for column, value in (*((column, value) for column, values in asked.items() for value in values), *others):
        if _name(column, value) not in said:
            said.add(_name(column, value))
            new.append({column: value} | note)
    known = {tuple(row.get(name) for name in _NAMES) for row in tombstones}
    tombstones += [row for row in new if tuple(row.get(name) for name in _NAMES) not in known]
    schema = pa.schema([(name, pa.string()) for name in _COLUMNS])
    folder.write(TOMBSTONES, dump_table(pa.Table.from_pylist(tombstones, schema)))


def _strike_dropped(folder: Folder, gone: set[str]) -> None:
    """Take removed samples out of the list of what was left out: their own rows, and where they are why another was."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not folder.exists(DROPPED):
        return
    before = load_table(folder.read(DROPPED))
    names = pa.array(sorted(gone), pa.string())
    table = before.filter(pc.invert(pc.is_in(before["key"], names)))
    because = pc.if_else(pc.is_in(table["because"], names), pa.scalar(None, pa.string()), table["because"])
    table = table.set_column(table.column_names.index("because"), "because", because)
    if table != before:
        folder.clean(DROPPED)
        folder.write(DROPPED, dump_table(table))


def _name(column: str, value: str | None) -> str | None:
    return url_name(value) if column == "uri" and value else value


def read_tombstones(folder: Folder) -> list[dict[str, str | None]]:
    """What was taken down of a release: rows with key, uri, sha256, original_sha256, phash, reason, date."""
    if not folder.exists(TOMBSTONES):
        return []
    found: list[dict[str, str | None]] = load_table(folder.read(TOMBSTONES)).to_pylist()
    return found


def _rewrite(folder: Folder, old: str, new: str, split: str, gone: set[str]) -> Shard:
    """A shard without some keys under its new name; nothing is written if nothing is left.

    What lies where is read from the shard itself: an interrupted run may have gone on to the new one already.
    """
    sizes = folder.sizes(suffix=".tar")
    source = old if old in sizes else new
    extents: list[Extent] = []
    if size := sizes.get(source):
        with reader(folder, source) as read:
            extents = list(sample_extents(f"{folder.uri}/{source}", size, read))
    left = [(e.key.encode(), 0, e.start, e.size, False) for e in extents if e.key not in gone]
    shard = Shard(new, split, np.array(left, PIECE))
    if left:
        with Copier(((folder, source),)) as copier:
            shard = copier.write(folder, shard, lambda _: None)
    for name in {old, new} if not left else {old}:
        folder.remove(name)
    return shard
