"""The hall of export: parts -> selection -> splits and order -> shards -> index, card, checksums, and the manifest last."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import accumulate, chain
from typing import TYPE_CHECKING

from handface.pipeline.contract.sample import SCHEMA_VERSION
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import dump_table
from handface.pipeline.export.card import dataset_card, licence_ledger
from handface.pipeline.export.catalogue import ExportError, read_catalogue
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.croissant import croissant
from handface.pipeline.export.manifest import (
    CARD,
    CHECKSUMS,
    CROISSANT,
    DROPPED,
    INDEX,
    LEDGER,
    MANIFEST,
    TOMBSTONES,
    Release,
    ReleaseFile,
    read_release,
)
from handface.pipeline.export.select import Dropped, select
from handface.pipeline.export.split import assign_splits, shuffled
from handface.pipeline.export.write import Shard, plan_shards, write_shards

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


def release(
    parts: Sequence[str], output: str, config: ExportConfig, advance: Callable[[int, int], None] = lambda *_: None
) -> Release:
    """Export finished parts; running it again gives the same bytes. advance: told bytes written and bytes in all.

    Raises ExportError, QueryError, StorageError. A release that is there already with other content is refused, not overwritten.
    """
    folder = Folder(output)
    catalogue = read_catalogue(parts)
    selection = select(catalogue, config)
    keys = selection.rows["key"].to_pylist()
    order = shuffled(keys, config.seed)
    chosen = assign_splits(selection.rows, config.splits, config.seed, config.identity_column)
    places = sorted(order, key=chosen.__getitem__)  # split by split, shuffled within each
    rows, splits = selection.rows.take(places), [chosen[place] for place in places]
    shards = plan_shards(rows, splits, config.shard_samples, config.shard_bytes)
    made = Release(
        name=config.name,
        revision=1,
        samples={split: splits.count(split) for split in config.splits},
        inputs=catalogue.inputs,
        funnel=catalogue.funnel,
        dropped=_count(selection.dropped),
        config=config.as_dict(),
        fingerprint=_fingerprint((keys[place] for place in order), config),
        files={},
    )
    if (there := read_release(folder)) is not None:
        if there.fingerprint != made.fingerprint:
            raise ExportError(
                f"{output}: holds another release ({there.name}, revision {there.revision}); choose another folder"
            )
        log.info("%s: this release is there already, revision %d", output, there.revision)
        return there
    total = sum(piece.size for shard in shards for piece in shard.pieces)
    index = _index_table(rows, shards)
    with ThreadPoolExecutor(1) as pool:  # the tables are made while the disk is busy with the shards
        writing = pool.submit(write_shards, catalogue.tars, folder, shards, lambda count: advance(count, total))
        _write(folder, DROPPED, dump_table(_dropped_table(selection.dropped)))
        _write_index(folder, index)
        written = writing.result()
    files = {s.name: ReleaseFile(s.bytes, s.sha256, len(s.pieces), s.split) for s in written}
    return _finish(folder, replace(made, files=files), index)


def publish(folder: Folder, made: Release, index: pa.Table) -> Release:
    """Write what follows from the shards: index, ledger, card, Croissant, checksums, and the manifest last."""
    _write_index(folder, index)
    return _finish(folder, made, index)


def _write_index(folder: Folder, index: pa.Table) -> None:
    _write(folder, INDEX, dump_table(index))
    _write(folder, LEDGER, licence_ledger(index))


def _finish(folder: Folder, made: Release, index: pa.Table) -> Release:
    _write(folder, CARD, dataset_card(made, index))
    files = {name: info for name, info in made.files.items() if info.samples}
    files |= {name: _info(folder, name) for name in (INDEX, DROPPED, LEDGER, CARD, TOMBSTONES) if folder.exists(name)}
    _write(folder, CROISSANT, croissant(replace(made, files=files), index))
    files[CROISSANT] = _info(folder, CROISSANT)
    _write(folder, CHECKSUMS, "".join(f"{info.sha256}  {name}\n" for name, info in sorted(files.items())).encode())
    finished = replace(made, files=files)
    _write(folder, MANIFEST, finished.dumps())
    return finished


def _write(folder: Folder, name: str, data: bytes) -> None:
    folder.clean(name)  # what a killed run left
    folder.write(name, data)


def _index_table(rows: pa.Table, shards: Sequence[Shard]) -> pa.Table:
    """One row per published sample, in shard order: where it is, where it comes from, how it scored."""
    import pyarrow as pa

    offsets = [accumulate((piece.size for piece in shard.pieces[:-1]), initial=0) for shard in shards]
    columns = {
        "split": pa.array([shard.split for shard in shards for _ in shard.pieces], pa.string()),
        "shard": pa.array([shard.name for shard in shards for _ in shard.pieces], pa.string()),
        "offset": pa.array(list(chain.from_iterable(offsets)), pa.int64()),
        "size": rows["size"],
    }
    table = rows.drop_columns(["part", "offset", "size", "id"])
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def _fingerprint(keys: Iterable[str], config: ExportConfig) -> str:
    digest = hashlib.sha256(json.dumps([SCHEMA_VERSION, config.as_dict()], sort_keys=True).encode())
    for key in keys:
        digest.update(key.encode())
    return digest.hexdigest()


def _count(dropped: Sequence[Dropped]) -> dict[str, int]:
    reasons = [one.reason for one in dropped]
    return {reason: reasons.count(reason) for reason in sorted(set(reasons))}


def _dropped_table(dropped: Sequence[Dropped]) -> pa.Table:
    import pyarrow as pa

    return pa.table(
        {name: pa.array([getattr(one, name) for one in dropped], pa.string()) for name in ("key", "reason", "because")}
    )


def _info(folder: Folder, name: str) -> ReleaseFile:
    data = folder.read(name)
    return ReleaseFile(len(data), hashlib.sha256(data).hexdigest())
