"""Writes a unit's finished records as its part (contract/parts.py).

Equal records give equal bytes, so that writing a part twice, or by two processes at once, does no harm.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from handface.pipeline.contract.inputs import Reason, pack_items
from handface.pipeline.contract.parts import FOUND, SCORES, FileInfo, Manifest, part_name, row_schema
from handface.pipeline.contract.sample import encode
from handface.pipeline.contract.shards import write_members
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import dump_table
from handface.pipeline.engine.record import Packed, Record

log = logging.getLogger(__name__)
WRITE = "write"  # the stage name of what is turned away here
_DETAIL = 500  # characters kept of a detail
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # object addresses in error texts differ from run to run


@dataclass(frozen=True)
class BuiltPart:
    """A part in memory, ready to be written: {file name: bytes} in the order to write, manifest last."""

    manifest: Manifest
    files: dict[str, bytes] = field(repr=False)


def build_part(unit: str, records: Sequence[Record], stages: Sequence[str], fingerprint: str) -> BuiltPart:
    """Encode a unit's finished records. Every record must be rejected or hold a sample; equal crops are kept once."""
    _reject_equal_samples(records)
    tar = io.BytesIO()
    places = write_members(tar, ((kept.key, kept.members) for record in records if (kept := _kept(record)) is not None))
    data = {part_name(unit, "tar"): tar.getvalue(), part_name(unit, "parquet"): _parquet(records, places)}
    if found := [item for record in records for item in record.found]:
        data[part_name(unit, FOUND)] = pack_items(found)
    rejected: dict[str, Counter[str]] = {}
    for record in records:
        if record.reason is not None:
            rejected.setdefault(record.stage, Counter())[record.reason.value] += 1
    manifest = Manifest(
        unit=unit,
        inputs=len(records),
        kept=sum(record.alive for record in records),
        stages=(*stages, WRITE),
        rejected={stage: dict(reasons) for stage, reasons in rejected.items()},
        fingerprint=fingerprint,
        files={name: FileInfo(len(blob), hashlib.sha256(blob).hexdigest()) for name, blob in data.items()},
    )
    return BuiltPart(manifest, data | {part_name(unit, "json"): manifest.dumps()})


def write_part(folder: Folder, part: BuiltPart) -> None:
    """Publish a part, its manifest last, after clearing what a killed attempt at it left. Raises StorageError."""
    folder.clean(part_name(part.manifest.unit, ""))
    for name, data in part.files.items():
        folder.write(name, data)


def _row(record: Record, place: tuple[int, int] | None) -> dict[str, Any]:
    item, scores, size = record.item, record.scores, record.original_size
    source = record.sample.meta.source if record.alive and record.sample else None  # knows what the stages found out
    return {
        "id": item.id,
        "uri": item.origin,
        "member": item.member,
        "key": _key(record),
        "kept": record.alive,
        "reason": record.reason.value if record.reason else None,
        "detail": _ADDRESS.sub("", record.detail)[:_DETAIL] or None,
        "stage": record.stage or None,
        "sha256": record.sha256,
        "phash": record.phash,
        "width": size[0] if size else None,
        "height": size[1] if size else None,
        **{name: getattr(scores, name) if scores else None for name in SCORES},
        "keypoint_agreement": sorted(scores.keypoint_agreement.items()) if scores else None,
        "licence": (source and source.licence) or item.column("licence") or item.column("license"),
        "author": (source and source.author) or item.column("author"),
        "page": (source and source.page) or item.column("page"),
        "columns": sorted(item.columns),
        "evidence": sorted(record.evidence.items()),
        "offset": place and place[0],
        "size": place and place[1],
    }


def _parquet(records: Sequence[Record], places: dict[str, tuple[int, int]]) -> bytes:
    import pyarrow as pa

    rows = [_row(record, places.get(_key(record) or "")) for record in records]
    return dump_table(pa.Table.from_pylist(rows, row_schema()))


def _key(record: Record) -> str | None:
    kept = record.sample or record.packed
    return kept.key if kept is not None and record.alive else None


def _kept(record: Record) -> Packed | None:
    if not record.alive:
        return None
    return Packed(record.sample.key, encode(record.sample)) if record.sample else record.packed


def _reject_equal_samples(records: Sequence[Record]) -> None:
    """Two inputs may give the same crop, hence the same key, which a shard holds once; the earlier input keeps it."""
    first: dict[str, Record] = {}
    for record in records:
        if not record.alive:
            continue
        key = _key(record)
        if key is None:
            raise ValueError(f"{record.item.name}: passed every stage but holds no sample; the last stage must pack it")
        if (earlier := first.setdefault(key, record)) is not record:
            record.reject(Reason.DUPLICATE, f"the same crop as {earlier.item.name}")
            record.stage = WRITE
