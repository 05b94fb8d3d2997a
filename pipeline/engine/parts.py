"""Writes a unit's finished records as its part (contract/parts.py).

Equal records give equal bytes, so that writing a part twice, or by two processes at once, does no harm.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from handface.pipeline.contract.inputs import Reason, pack_items
from handface.pipeline.contract.parts import FOUND, SCORES, FileInfo, Manifest, part_name, row_schema
from handface.pipeline.contract.sample import encode
from handface.pipeline.contract.shards import write_members
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import dump_table
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.spool import Spooled
from handface.pipeline.engine.stage import reject_failed, without_addresses

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

WRITE = "write"  # the stage name of what is turned away here
_DETAIL = 500  # characters kept of a detail


def write_part(
    folder: Folder, unit: str, records: Sequence[Record], stages: Sequence[str], fingerprint: str
) -> Manifest:
    """Publish a unit's finished records as its part, its manifest last, after clearing what a killed attempt left.

    Every record must be rejected or hold a sample; equal crops are kept once. Samples go to the tar one by one.
    Raises StorageError.
    """
    _reject_equal_samples(records)
    folder.clean(part_name(unit, ""))
    files: dict[str, FileInfo] = {}
    with folder.writer(part_name(unit, "tar")) as stream:
        counted = _CountedStream(stream)
        places = write_members(counted, filter(None, map(_kept, records)))  # type: ignore[arg-type]
        files[part_name(unit, "tar")] = counted.info()
    found = [item for record in records for item in record.found]
    tables = {"parquet": _parquet(records, places)} | ({FOUND: pack_items(found)} if found else {})
    for extension, data in tables.items():
        folder.write(part_name(unit, extension), data)
        files[part_name(unit, extension)] = FileInfo(len(data), hashlib.sha256(data).hexdigest())
    rejected, ended = _counts(records, outcome=False), _counts(records, outcome=True)
    kept_count = sum(record.alive for record in records)
    manifest = Manifest(unit, len(records), kept_count, (*stages, WRITE), rejected, ended, fingerprint, files)
    folder.write(part_name(unit, "json"), manifest.dumps())
    return manifest


class _CountedStream(io.RawIOBase):
    """Passes bytes on and knows their number and checksum."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._sum, self._count = stream, hashlib.sha256(), 0

    def write(self, data: ReadableBuffer) -> int:
        """Raises OSError as the stream does."""
        self._sum.update(data)
        self._stream.write(data)
        size = memoryview(data).nbytes
        self._count += size
        return size

    def tell(self) -> int:
        """Bytes written so far."""
        return self._count

    def info(self) -> FileInfo:
        """Size and checksum of what was written."""
        return FileInfo(self._count, self._sum.hexdigest())


def _counts(records: Sequence[Record], *, outcome: bool) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for record in records:
        if record.reason is not None and record.reason.is_outcome == outcome:
            counts.setdefault(record.stage, Counter())[record.reason.value] += 1
    return {stage: dict(reasons) for stage, reasons in counts.items()}


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
        "detail": without_addresses(record.detail)[:_DETAIL] or None,
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


def _utf8(value: Any) -> Any:
    r"""Names that are not UTF-8 (from old zips and tars) become text that a table holds: `caf\udce9.jpg`."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list | tuple):
        return type(value)(map(_utf8, value))
    return {name: _utf8(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _parquet(records: Sequence[Record], places: dict[str, tuple[int, int]]) -> bytes:
    import pyarrow as pa

    rows = [_utf8(_row(record, places.get(_key(record) or ""))) for record in records]
    return dump_table(pa.Table.from_pylist(rows, row_schema()))


def _key(record: Record) -> str | None:
    kept = record.sample or record.packed
    return kept.key if kept is not None and record.alive else None


def _kept(record: Record) -> tuple[str, dict[str, bytes]] | None:
    """Key and members of what the part keeps, read from the spool if they lie there; a sample that cannot be encoded ends here."""
    if not record.alive:
        return None
    if record.sample is None:
        assert record.packed is not None
        members = record.packed.members.items()
        return record.packed.key, {name: data.read() if isinstance(data, Spooled) else data for name, data in members}
    try:
        return record.sample.key, encode(record.sample)
    except Exception as error:
        reject_failed(record, error)
        record.stage = WRITE
        return None


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
