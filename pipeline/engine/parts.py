"""One part per unit: the kept samples, a row per input, and a manifest that is written last and makes the part exist.

`part-<id>.tar` (samples in input order), `part-<id>.parquet` (one row per input, kept or not), `part-<id>.json` (counts and
checksums). Equal records give equal bytes, so that writing a part twice, or by two processes at once, does no harm.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from handface.pipeline.contract.sample import SCHEMA_VERSION, Sample, Scores, encode
from handface.pipeline.contract.shards import iter_samples, write_members
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import dump_table, load_table
from handface.pipeline.engine.record import Packed, Reason, Record, SourceItem
from handface.pipeline.engine.units import pack_items, unpack_items

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
WRITE = "write"  # the stage name of what is turned away here
FOUND = "found.jsonl.gz"
_BATCH = 256  # manifests read at once
_DETAIL = 500  # characters kept of a detail
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # object addresses in error texts differ from run to run
_SCORES = tuple(f.name for f in fields(Scores) if f.name != "keypoint_agreement")


@dataclass(frozen=True)
class FileInfo:
    """Size and checksum of one file of a part."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of `part-<id>.json`. rejected: {stage: {reason: count}}; stages in the order records pass them."""

    unit: str
    inputs: int
    kept: int
    stages: tuple[str, ...]
    rejected: dict[str, dict[str, int]]
    fingerprint: str
    files: dict[str, FileInfo]
    schema_version: str = SCHEMA_VERSION

    def dumps(self) -> bytes:
        """As JSON; equal manifests give equal bytes."""
        return (json.dumps(asdict(self), sort_keys=True, indent=1) + "\n").encode()

    @classmethod
    def loads(cls, blob: bytes) -> Manifest:
        """The inverse of `dumps`. Raises ValueError if it is no manifest."""
        try:
            raw = json.loads(blob)
            raw["files"] = {name: FileInfo(**info) for name, info in raw["files"].items()}
            raw["stages"] = tuple(raw["stages"])
            return cls(**raw)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a part's manifest ({error})") from error


@dataclass(frozen=True)
class BuiltPart:
    """A part in memory, ready to be written: {file name: bytes} in the order to write, manifest last."""

    manifest: Manifest
    files: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True)
class Part:
    """A finished part in a folder."""

    folder: Folder
    manifest: Manifest

    def uri(self, extension: str) -> str:
        """Path or URI of the part's `tar`, `parquet` or `json`."""
        return f"{self.folder.uri.rstrip('/')}/{part_name(self.manifest.unit, extension)}"

    def samples(self) -> Iterator[Sample]:
        """The kept samples in input order. Raises ShardError naming file and key."""
        return iter_samples(self.uri("tar"))

    def rows(self) -> pa.Table:
        """One row per input, in input order; columns as in `row_schema`."""
        return load_table(self.folder.read(part_name(self.manifest.unit, "parquet")))

    def found(self) -> Iterator[SourceItem]:
        """Further inputs that those of this part led to, in order."""
        name = part_name(self.manifest.unit, FOUND)
        if name in self.manifest.files:
            yield from unpack_items(self.folder.read(name))


def part_name(unit: str, extension: str) -> str:
    """File name of one file of a unit's part."""
    return f"part-{unit}.{extension}"


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


def read_parts(uri: str | Folder) -> Iterator[Part]:
    """The finished parts of a folder in name order; one whose files are missing or of another size is left out with a warning.

    Reads only manifests and sizes; holds one batch of them at a time.
    """
    folder = uri if isinstance(uri, Folder) else Folder(uri)
    sizes = folder.sizes(prefix="part-")
    names = sorted(name for name in sizes if name.endswith(".json"))
    for start in range(0, len(names), _BATCH):
        for name, blob in folder.read_many(names[start : start + _BATCH]).items():
            if (manifest := _checked(folder, name, blob, sizes)) is not None:
                yield Part(folder, manifest)


def _checked(folder: Folder, name: str, blob: bytes, sizes: dict[str, int]) -> Manifest | None:
    try:
        manifest = Manifest.loads(blob)
    except ValueError as error:
        log.warning("%s/%s: %s; the part does not count", folder.uri, name, error)
        return None
    for file, info in manifest.files.items():
        if sizes.get(file) != info.bytes:
            log.warning("%s/%s: missing or not the size %s says; the part does not count", folder.uri, file, name)
            return None
    return manifest


def row_schema() -> pa.Schema:
    """Columns of `part-<id>.parquet`."""
    import pyarrow as pa

    text, real, words = pa.string(), pa.float64(), pa.map_(pa.string(), pa.string())
    columns: list[tuple[str, Any]] = [
        ("id", text),
        ("uri", text),
        ("member", text),
        ("key", text),
        ("kept", pa.bool_()),
    ]
    columns += [("reason", text), ("detail", text), ("stage", text), ("sha256", text), ("phash", text)]
    columns += [("width", pa.int32()), ("height", pa.int32()), *((name, real) for name in _SCORES)]
    columns += [("keypoint_agreement", pa.map_(text, real)), ("licence", text), ("author", text), ("page", text)]
    columns += [("columns", words), ("evidence", words)]
    columns += [("offset", pa.int64()), ("size", pa.int64())]  # of the sample in the part's tar
    return pa.schema(columns)


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
        **{name: getattr(scores, name) if scores else None for name in _SCORES},
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
