"""Check shards: `validate` walks tars sample by sample and names the file, key and member of whatever is wrong."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from handface.pipeline.contract.checks.sample import EXTENSIONS, check_sample
from handface.pipeline.contract.checks.tar import TarWalk
from handface.pipeline.contract.names.addresses import open_file
from handface.pipeline.contract.sample import KEY_LENGTH, is_hex
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import load_table


@dataclass(frozen=True)
class Finding:
    """One thing wrong. `key` is the sample's (or the member's name where there is no sample), `member` its extension."""

    file: str
    key: str
    member: str
    code: str
    message: str


@dataclass
class FileResult:
    """What one shard holds. `findings` is bounded, `counts` is not."""

    file: str
    samples: int = 0
    bytes: int = 0
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"counts": dict(sorted(self.counts.items()))}


def validate(
    uris: Iterable[str], *, max_findings: int = 20, progress: Callable[[int], None] = lambda _: None
) -> Iterator[FileResult]:
    """Check shards one after the other, yielding a result each; a key may appear once over all of them.

    uris: paths or fsspec URIs of tars.  max_findings: kept per file (all are counted).  progress: gets bytes read.
    Raises OSError if a file cannot be opened; whatever is inside a file is a finding.
    """
    seen: dict[str, str] = {}  # key -> file
    for uri in uris:
        checker = _FileChecker(uri, seen, max_findings)
        with open_file(uri) as stream:
            walk = TarWalk(uri, stream, progress)
            checker.run(walk)
        checker.check_part(walk)
        yield checker.result


class _FileChecker:
    """Collects the findings of one tar; groups neighbouring members into samples as webdataset does."""

    def __init__(self, uri: str, seen: dict[str, str], max_findings: int) -> None:
        self.result = FileResult(uri)
        self._keys: list[str] = []
        self._seen = seen
        self._max_findings = max_findings

    def add(self, code: str, message: str, key: str = "", member: str = "") -> None:
        """Count a finding, and keep it while there is room."""
        self.result.counts[code] += 1
        if len(self.result.findings) < self._max_findings:
            self.result.findings.append(Finding(self.result.file, key, member, code, message))

    def run(self, walk: TarWalk) -> None:
        """Read the whole tar. Problems become findings."""
        key, members = "", dict[str, bytes | None]()
        for member in walk:
            if member.key != key:
                self._end_sample(key, members)
                key, members = member.key, {}
            if member.problem:
                self.add(member.code, member.problem, key, member.extension)
            if member.extension in members:
                self.add("duplicate_key", "the member is there twice", key, member.extension)
            members[member.extension] = member.data
        self._end_sample(key, members)
        if walk.damage:
            self.add("bad_tar", walk.damage)
        self.result.bytes = walk.count

    def _end_sample(self, key: str, members: dict[str, bytes | None]) -> None:
        if not any(extension in EXTENSIONS for extension in members):
            return
        self.result.samples += 1
        self._keys.append(key)
        if key in self._seen:
            where = "earlier in this file" if self._seen[key] == self.result.file else f"in {self._seen[key]}"
            self.add(
                "duplicate_key",
                f"the key is already {where}; `handface dedupe` lists copies, and `export` leaves them out",
                key,
            )
        self._seen.setdefault(key, self.result.file)
        if not is_hex(key, KEY_LENGTH):
            self.add("bad_key", f"a key is {KEY_LENGTH} lower-case hex digits without a folder", key)
        readable = {extension: data for extension, data in members.items() if data is not None}
        for problem in check_sample(key, readable):
            self.add(problem.code, problem.message, key, problem.member)

    def check_part(self, walk: TarWalk) -> None:
        """Compare with the manifest `part-<id>.json` and the rows `part-<id>.parquet` beside the tar, if it has them."""
        from handface.pipeline.contract.parts import Manifest

        root, _, name = self.result.file.rpartition("/")
        folder, stem = Folder(root or "."), name.removesuffix(".tar")
        if not re.fullmatch(r"part-.+\.tar", name) or not folder.exists(f"{stem}.json"):
            return None
        try:
            manifest = Manifest.loads(folder.read(f"{stem}.json"))
        except ValueError as error:
            return self.add("part_mismatch", f"{stem}.json: {error}")
        tar, parquet = manifest.files.get(name), manifest.files.get(f"{stem}.parquet")
        if tar is None or (tar.bytes, tar.sha256) != (walk.count, walk.sha256):
            self.add("part_mismatch", f"size or sha256 is not what {stem}.json says: changed after it was written")
        if manifest.kept != self.result.samples:
            self.add("part_mismatch", f"{self.result.samples} samples, but {stem}.json says {manifest.kept}")
        if not folder.exists(f"{stem}.parquet"):
            return self.add("part_mismatch", f"{stem}.parquet is missing")
        rows = folder.read(f"{stem}.parquet")
        if parquet is None or parquet.sha256 != hashlib.sha256(rows).hexdigest():
            self.add("part_mismatch", f"the sha256 of {stem}.parquet is not what {stem}.json says")
        return self._check_rows(rows, f"{stem}.parquet", manifest.inputs)

    def _check_rows(self, blob: bytes, name: str, inputs: int) -> None:
        import pyarrow as pa

        try:
            table = load_table(blob, ["key", "kept"])
        except (pa.ArrowException, OSError, KeyError) as error:
            return self.add("part_mismatch", f"{name} does not read ({error})")
        if table.num_rows != inputs:
            self.add("part_mismatch", f"{name} has {table.num_rows} rows for {inputs} inputs")
        if table.filter(table["kept"])["key"].to_pylist() != self._keys:
            self.add("part_mismatch", f"the keys that {name} calls kept are not those of the tar")
        return None
