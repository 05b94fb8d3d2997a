"""One part per unit: the kept samples, a row per input, and a manifest that is written last and makes the part exist.

`part-<id>.tar` (samples in input order), `part-<id>.parquet` (one row per input, kept or not), `part-<id>.json` (counts and
checksums).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from handface.pipeline.contract.damage import Damage
from handface.pipeline.contract.inputs import SourceItem, unpack_items
from handface.pipeline.contract.names.patterns import nothing_there
from handface.pipeline.contract.sample import SCHEMA_VERSION, Sample, Scores
from handface.pipeline.contract.shards import iter_samples
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import load_table

if TYPE_CHECKING:
    import pyarrow as pa

FOUND = "found.jsonl.gz"
CRAWL = "crawl.json"  # names the rounds of a crawl, in the root of its folder; each round is a folder of parts
SCORES = tuple(f.name for f in fields(Scores) if f.name != "keypoint_agreement")
_BATCH = 256  # manifests read at once
_READERS = 8  # files compared at once


@dataclass(frozen=True)
class FileInfo:
    """Size and checksum of one file of a part."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The content of `part-<id>.json`: counts and checksums.

    Attributes:
        stages: In the order records pass them.
        rejected: {stage: {reason: count}} of inputs that were turned away.
        ended: {stage: {reason: count}} of inputs that did what they were for without a sample, such as pages read for links.
    """

    unit: str
    inputs: int
    kept: int
    stages: tuple[str, ...]
    rejected: dict[str, dict[str, int]]
    ended: dict[str, dict[str, int]]
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
class FinishedPart:
    """A finished part in a folder."""

    folder: Folder
    manifest: Manifest

    def uri(self, extension: str) -> str:
        """Path or URI of the part's `tar`, `parquet` or `json`."""
        return f"{self.folder.uri.rstrip('/')}/{part_name(self.manifest.unit, extension)}"

    def samples(self) -> Iterator[Sample]:
        """The kept samples in input order. Raises ShardError naming file and key."""
        return iter_samples(self.uri("tar"))

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """One row per input, in input order; all columns of `row_schema`, or some."""
        return load_table(self.folder.read(part_name(self.manifest.unit, "parquet")), columns)

    def found(self) -> Iterator[SourceItem]:
        """Further inputs that those of this part led to, in order."""
        name = part_name(self.manifest.unit, FOUND)
        if name in self.manifest.files:
            yield from unpack_items(self.folder.read(name))


def part_name(unit: str, extension: str) -> str:
    """File name of one file of a unit's part."""
    return f"part-{unit}.{extension}"


def none_whole(uri: str, damaged: Collection[str]) -> str:
    """What to say of a folder in which every part is damaged. damaged: files, at least one."""
    return f"{uri}: no part is whole ({min(damaged)} is damaged); run the job that wrote them again"


def no_parts(uri: str) -> str:
    """What to say of a folder that holds none, and that needs some."""
    return nothing_there(uri, "no finished parts there; give a folder that `handface annotate` wrote")


def read_parts(uri: str | Folder, damage: Damage | None = None) -> Iterator[FinishedPart]:
    """The finished parts of a folder in name order; one whose files are missing or of another size is left out with a warning.

    Reads only manifests and sizes, and what `damage`, which is told of what is left out, wants to have compared; holds one batch
    of them at a time.
    """
    known = Damage() if damage is None else damage
    folder = uri if isinstance(uri, Folder) else Folder(uri)
    sizes = folder.sizes(prefix="part-")
    names = sorted(name for name in sizes if name.endswith(".json"))
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(names), _BATCH):
            blobs = folder.read_many(names[start : start + _BATCH])
            for manifest in pool.map(lambda one: _checked(folder, one[0], one[1], sizes, known), blobs.items()):
                if manifest is not None:
                    yield FinishedPart(folder, manifest)


def find_part(folder: Folder, unit: str) -> Manifest | None:
    """The manifest of a unit's part, or None if there is none or a file of it is missing or of another size."""
    name = part_name(unit, "json")
    if not folder.exists(name):
        return None
    try:
        manifest = Manifest.loads(folder.read(name))
    except ValueError:
        return None
    whole = all(folder.size(file) == info.bytes for file, info in manifest.files.items())
    return manifest if whole else None


def _checked(folder: Folder, name: str, blob: bytes, sizes: dict[str, int], damage: Damage) -> Manifest | None:
    try:
        manifest = Manifest.loads(blob)
    except ValueError as error:
        damage.add(f"{folder.uri.rstrip('/')}/{name}", f"{error}; the part does not count")
        return None
    return manifest if damage.check(folder, name, manifest.files, sizes) else None


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
    columns += [("width", pa.int32()), ("height", pa.int32()), *((name, real) for name in SCORES)]
    columns += [("keypoint_agreement", pa.map_(text, real)), ("licence", text), ("author", text), ("page", text)]
    columns += [("columns", words), ("evidence", words)]
    columns += [("offset", pa.int64()), ("size", pa.int64())]  # of the sample in the part's tar
    return pa.schema(columns)
