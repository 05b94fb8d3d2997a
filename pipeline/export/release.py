"""A release from parts: selection, splits and order, shards, index, card, checksums, and the manifest last."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.damage import Damage
from handface.pipeline.contract.lock import lock_folder
from handface.pipeline.contract.sample import SCHEMA_VERSION
from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.catalogue import Catalogue, ExportError, read_catalogue
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.manifest import (
    CARD,
    CHECKSUMS,
    CROISSANT,
    DROPPED,
    INDEX,
    LEDGER,
    MANIFEST,
    RELEASE_VERSION,
    TOMBSTONES,
    Release,
    ReleaseFile,
    read_release,
)
from handface.pipeline.export.metadata.card import dataset_card
from handface.pipeline.export.metadata.croissant import croissant
from handface.pipeline.export.metadata.index import Figures, release_schema, shuffled_tables, write_index
from handface.pipeline.export.select import ListUse, Selection, select
from handface.pipeline.export.split import assign_splits, shuffled, split_warnings
from handface.pipeline.export.write import PIECE, plan_shards, write_shards

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

log = logging.getLogger(__name__)
# of another export or takedown of the same folder
LOCK_WAIT_S = 600.0
# digits of the fingerprint in the names of shards
_TAG = 8


def release(
    parts: Sequence[str],
    output: str,
    config: ExportConfig,
    advance: Callable[[int, int], None] = lambda *_: None,
    damage: Damage | None = None,
) -> Release:
    """Export finished parts; running it again gives the same bytes.

    Args:
        parts: folders that hold parts.
        output: folder of the release.
        config: what it holds, in which order.
        advance: told bytes written and bytes in all.
        damage: says what is compared first, and is told of damaged parts, which are left out.

    Raises:
        ExportError: a release with other content is there already, or the parts cannot be used.
        QueryError, ExclusionError: a bad subset or list.
        LockedError, StorageError: the output cannot be written.
    """
    folder = Folder(output)
    with lock_folder(folder, "export", LOCK_WAIT_S):
        return _release(read_catalogue(parts, damage), folder, config, advance)


def _release(
    catalogue: Catalogue, folder: Folder, config: ExportConfig, advance: Callable[[int, int], None]
) -> Release:
    selection = select(catalogue, config)
    _warn_of_idle_lists(selection.lists)
    rows, order = selection.rows, shuffled(selection.rows["key"], config.seed)
    shared = [rows["group"], selection.family, rows["container"], rows["identity"]]
    split, largest = assign_splits(rows["key"], shared, config.splits, config.seed)
    fingerprint = _fingerprint(rows["key"][order], catalogue.checksum(), config)
    # split by split, shuffled within each
    places = order[np.argsort(split[order], kind="stable")]
    rows, family = rows[places], selection.family[places]
    counts = np.bincount(split, minlength=len(config.splits)).tolist()
    samples = dict(zip(config.splits, counts, strict=True))
    for warning in split_warnings(samples, config.splits, largest, config.group_by):
        log.warning("%s", warning)
    made = Release(
        name=config.name,
        revision=1,
        samples=samples,
        inputs=catalogue.inputs,
        funnel=catalogue.funnel,
        dropped=selection.counts(),
        config=config.as_dict(),
        fingerprint=fingerprint,
        files={},
    )
    if (there := read_release(folder)) is not None:
        if there.fingerprint != made.fingerprint:
            raise ExportError(
                f"{folder.uri}: holds another release ({there.name}, revision {there.revision}), of other parts, labels or "
                "settings; choose another folder"
            )
        log.info("%s: this release is there already, revision %d", folder.uri, there.revision)
        return there
    shards = plan_shards(_pieces(rows), samples, fingerprint[:_TAG], config.shard_samples, config.shard_bytes)
    total = int(rows["size"].sum())
    schema = release_schema(catalogue)
    with ThreadPoolExecutor(1) as pool:  # the tables are made while the disk is busy with the shards
        writing = pool.submit(write_shards, catalogue.tars, folder, shards, lambda count: advance(count, total))
        _write_dropped(folder, selection)
        figures = write_index(folder, shuffled_tables(catalogue, rows, family, shards, schema, folder), schema)
        written = writing.result()
    files = {s.name: ReleaseFile(s.bytes, s.sha256, len(s.pieces), s.split) for s in written}
    return finish(folder, replace(made, files=files), figures)


def publish(folder: Folder, made: Release, tables: Iterator[pa.Table], schema: pa.Schema) -> Release:
    """Write what follows from the shards: index, ledger, card, Croissant, checksums, and the manifest last."""
    return finish(folder, made, write_index(folder, tables, schema))


def finish(folder: Folder, made: Release, figures: Figures) -> Release:
    """Write card, Croissant, checksums, and the manifest last."""
    if figures.unlicensed:
        log.warning(
            '%d of %d samples have no known licence: ask before you publish them, or leave them out with --subset "licence != None"',
            *(figures.unlicensed, figures.samples),
        )
    _write(folder, CARD, dataset_card(made, figures))
    files = {name: info for name, info in made.files.items() if info.samples}
    files |= {
        name: file_info(folder, name) for name in (INDEX, DROPPED, LEDGER, CARD, TOMBSTONES) if folder.exists(name)
    }
    _write(folder, CROISSANT, croissant(replace(made, files=files), figures))
    files[CROISSANT] = file_info(folder, CROISSANT)
    _write(folder, CHECKSUMS, "".join(f"{info.sha256}  {name}\n" for name, info in sorted(files.items())).encode())
    finished = replace(made, files=files)
    _write(folder, MANIFEST, finished.dumps())
    return finished


def _warn_of_idle_lists(lists: Sequence[ListUse]) -> None:
    for one in lists:
        level = logging.INFO if one.samples or not one.entries else logging.WARNING
        log.log(level, "%s: %d entries name %d of the samples", one.uri, one.entries, one.samples)


def _pieces(rows: NDArray[np.void]) -> NDArray[np.void]:
    pieces = np.empty(len(rows), PIECE)
    for name in PIECE.names or ():
        pieces[name] = rows[name]
    return pieces


def _write_dropped(folder: Folder, selection: Selection) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in ("key", "reason", "because")])
    folder.clean(DROPPED)
    with folder.writer(DROPPED) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        writer.write_table(schema.empty_table())
        for table in selection.dropped_tables():
            writer.write_table(table)


def _write(folder: Folder, name: str, data: bytes) -> None:
    # what a killed run left
    folder.clean(name)
    folder.write(name, data)


def _fingerprint(keys: NDArray[np.bytes_], parts: str, config: ExportConfig) -> str:
    versions = [SCHEMA_VERSION, RELEASE_VERSION, parts, config.as_dict()]
    digest = hashlib.sha256(json.dumps(versions, sort_keys=True).encode())
    digest.update(b"".join(keys.tolist()))
    return digest.hexdigest()


def file_info(folder: Folder, name: str) -> ReleaseFile:
    """Size and checksum of a file as it lies there."""
    return ReleaseFile(folder.size(name) or 0, folder.sha256(name))
