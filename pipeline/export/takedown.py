"""Takes samples out of a release: tombstone first, then the shards without them, then index, card and manifest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.exclusion import ORIGINAL_SHA256
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import dump_table, load_table
from handface.pipeline.export.catalogue import ExportError, reader
from handface.pipeline.export.extents import Extent, sample_extents
from handface.pipeline.export.manifest import INDEX, TOMBSTONES, ReleaseFile, read_release
from handface.pipeline.export.release import publish
from handface.pipeline.export.select import near_any
from handface.pipeline.export.write import Copier, Piece, Shard

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

_NAMES = ("key", "uri", "sha256", ORIGINAL_SHA256, "phash")  # columns that name a picture
_COLUMNS = (*_NAMES, "reason", "date")


@dataclass(frozen=True)
class Request:
    """What to take down; a sample that any of them names goes. phash: copies within `distance` bits go too.

    sha256: of the stored file or of the original that its owner has.
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
        for value in self.phash:
            if len(value) != 16 or not all(c in "0123456789abcdef" for c in value.lower()):
                raise ValueError(f"--phash {value!r}: expected 16 hex digits")


@dataclass(frozen=True)
class Takedown:
    """What was done. keys: samples removed, those an interrupted takedown had struck from the index left out.  shards: files rewritten, or removed because nothing was left in them."""

    keys: tuple[str, ...]
    shards: tuple[str, ...]
    revision: int


def take_down(output: str, request: Request, date: str) -> Takedown:
    """Remove what a request names from a release. date: ISO day for the tombstone.

    The tombstone is written first and also holds what the request says when nothing matches, so that later crawls, exports and
    loaders that are given `tombstones.parquet` leave it out. Killed half-way, the same command finishes the work.
    Raises ExportError if there is no release.
    """
    folder = Folder(output)
    there = read_release(folder)
    if there is None:
        raise ExportError(f"{output}: holds no release ({output}/manifest.json is missing)")
    index = load_table(folder.read(INDEX))
    out = _named(index, request) | _buried(index, folder)
    _bury(folder, index.filter(out), request, date)
    files = {name: info for name, info in there.files.items() if info.samples}
    sizes = folder.sizes(suffix=".tar")
    begun = {name for name, info in files.items() if sizes.get(name) != info.bytes}  # an interrupted takedown's
    hit = sorted(begun | set(index.filter(out)["shard"].to_pylist()))
    if not hit:
        return Takedown((), (), there.revision)
    gone = set(index.filter(out)["key"].to_pylist())
    for name in hit:
        shard = _rewrite(folder, name, files.pop(name).split, gone)
        if shard.pieces:
            files[name] = ReleaseFile(shard.bytes, shard.sha256, len(shard.pieces), shard.split)
    left = _with_offsets(index.filter(~out))
    counts = Counter(left["split"].to_pylist())
    removed = sum(there.samples.values()) - len(left)
    made = replace(
        there,
        revision=there.revision + 1,
        samples={split: counts[split] for split in there.samples},
        dropped=there.dropped | {"taken_down": there.dropped.get("taken_down", 0) + removed},
        files=dict(sorted(files.items())),
    )
    return Takedown(tuple(sorted(gone)), tuple(hit), publish(folder, made, left).revision)


def _named(index: pa.Table, request: Request) -> NDArray[np.bool_]:
    out = np.zeros(len(index), bool)
    sums = [(name, request.sha256) for name in ("sha256", ORIGINAL_SHA256)]
    for column, values in (("key", request.keys), ("uri", request.urls), *sums):
        out |= np.array([value in values for value in index[column].to_pylist()], bool)
    hashes = np.array([int(value or "0", 16) for value in index["phash"].to_pylist()], np.uint64)
    return out | near_any(hashes, np.array([int(value, 16) for value in request.phash], np.uint64), request.distance)


def _buried(index: pa.Table, folder: Folder) -> NDArray[np.bool_]:
    """Rows whose tombstone an interrupted takedown left behind."""
    keys = {row["key"] for row in _tombstones(folder) if row["key"]}
    return np.array([key in keys for key in index["key"].to_pylist()], bool)


def _bury(folder: Folder, rows: pa.Table, request: Request, date: str) -> None:
    """Add tombstones for the rows and for the request itself; what is there already stays once."""
    import pyarrow as pa

    note = {"reason": request.reason, "date": date}
    new = [{name: row[name] for name in _NAMES} | note for row in rows.to_pylist()]
    stones = _tombstones(folder)
    said = {row.get(name) for row in new + stones for name in _NAMES}
    for column, values in (
        ("key", request.keys),
        ("uri", request.urls),
        ("sha256", request.sha256),
        ("phash", request.phash),
    ):
        new += [{column: value} | note for value in values if value not in said]
    known = {tuple(stone.get(name) for name in _NAMES) for stone in stones}
    stones += [row for row in new if tuple(row.get(name) for name in _NAMES) not in known]
    schema = pa.schema([(name, pa.string()) for name in _COLUMNS])
    folder.write(TOMBSTONES, dump_table(pa.Table.from_pylist(stones, schema)))


def _tombstones(folder: Folder) -> list[dict[str, str | None]]:
    if not folder.exists(TOMBSTONES):
        return []
    found: list[dict[str, str | None]] = load_table(folder.read(TOMBSTONES)).to_pylist()
    return found


def _rewrite(folder: Folder, name: str, split: str, gone: set[str]) -> Shard:
    """The shard without some keys, in place; removed if nothing is left. What lies where is read from the shard itself, since an
    interrupted run may have rewritten it already."""
    extents: list[Extent] = []
    if size := folder.sizes(prefix=name).get(name):
        with reader(folder, name) as read:
            extents = list(sample_extents(f"{folder.uri}/{name}", size, read))
    left = tuple(Piece(e.key, 0, e.start, e.size) for e in extents if e.key not in gone)
    shard = Shard(name, split, left)
    if not left:
        folder.remove(name)
        return shard
    with Copier(((folder, name),)) as copier:
        return copier.write(folder, shard, lambda _: None)


def _with_offsets(index: pa.Table) -> pa.Table:
    """The rows that are left, at their new places: within a shard one behind the other."""
    import pyarrow as pa

    offsets: list[int] = []
    end: dict[str, int] = {}
    for shard, size in zip(index["shard"].to_pylist(), index["size"].to_pylist(), strict=True):
        offsets.append(end.get(shard, 0))
        end[shard] = offsets[-1] + size
    return index.set_column(index.column_names.index("offset"), "offset", pa.array(offsets, pa.int64()))
