"""Check every sample of shards and say which key of which file is wrong. Exit 0: all good, 1: findings, 2: could not look."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from handface.counted import counted

if TYPE_CHECKING:
    from handface.pipeline.contract.checks.validate import FileResult


@dataclass(frozen=True)
class Config:
    """What to check and how to say it."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Tars, folders of them, or globs; local paths or fsspec URIs (s3://, gs://)."""
    json: bool = False
    """Print one JSON document instead of text."""
    max_findings: int = 20
    """Findings shown per file; all are counted."""


def run(config: Config) -> int:
    """Validate and print. Returns 0 if every sample keeps the contract, else 1."""
    from handface.pipeline.contract.shards import find_shards

    if not config.shards:
        raise ValueError("name at least one shard, folder or glob")
    results = _validate(find_shards(config.shards), config.max_findings)
    if config.json:
        document = {
            "ok": not any(result.counts for result in results),
            "samples": sum(result.samples for result in results),
            "files": [result.as_dict() for result in results],
        }
        print(json.dumps(document, indent=1))
    else:
        _print(results)
    return 1 if any(result.counts for result in results) else 0


def _validate(uris: list[str], max_findings: int) -> list[FileResult]:
    from handface.jobs.shared.progress import byte_progress
    from handface.pipeline.contract.checks.validate import validate
    from handface.pipeline.contract.names.addresses import filesystem_of

    places = [filesystem_of(uri) for uri in uris]
    total = sum(filesystem.size(path) or 0 for filesystem, path in places)
    with byte_progress("validating") as advance:
        return list(validate(uris, max_findings=max_findings, progress=lambda count: advance(count, total)))


def _print(results: list[FileResult]) -> None:
    for result in results:
        for finding in result.findings:
            where = " ".join(part for part in (finding.key, f".{finding.member}" if finding.member else "") if part)
            print(f"{finding.file}: {where + ': ' if where else ''}{finding.message} [{finding.code}]")
        if (more := result.counts.total() - len(result.findings)) > 0:
            print(f"{result.file}: ... and {more} more")
    counts = sum((result.counts for result in results), Counter[str]())
    print(
        f"{counted(len(results), 'file')}, {counted(sum(r.samples for r in results), 'sample')}, {counted(counts.total(), 'finding')}"
    )
    for code, count in counts.most_common():
        print(f"  {count:6d}  {code}")


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("validate"))
