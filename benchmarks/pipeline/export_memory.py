"""Memory and CPU time of an export by the number of rows, each size in a process of its own.

Rows as a crawl and `annotate` leave them: addresses, licence, author, page, extra columns, evidence, scores. Samples are small (two
members of one block), so that it is the tables that are measured. Memory a row: the growth of the peak from one size to the next.

python -m benchmarks.pipeline.export_memory --save
"""

from __future__ import annotations

import dataclasses
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from benchmarks.results import report, tabulate

_UNIT = 500
_RUN = "import sys; from benchmarks.pipeline.export_memory import export; export(sys.argv[1], sys.argv[2])"


@dataclasses.dataclass(frozen=True)
class Config:
    rows: tuple[int, ...] = (100_000, 1_000_000)
    """Sizes to measure, in rising order."""
    folder: Path | None = None
    """Where to work; 1 M rows need 6 GB. Default: a temporary folder."""
    save: bool = False
    """Write the figures to docs/results/export_memory.csv and its page."""


def make_parts(folder: Path, first: int, last: int) -> None:
    """Parts with the rows from `first` to `last`; their tars hold two small members a sample."""
    import hashlib

    import pyarrow as pa

    from handface.pipeline.contract.parts import FileInfo, Manifest, part_name, row_schema
    from handface.pipeline.contract.shards import write_members
    from handface.pipeline.contract.storage import Folder
    from handface.pipeline.contract.tables import dump_table

    schema = row_schema()
    for start in range(first, last, _UNIT):
        rng = np.random.default_rng(start)
        numbers = range(start, min(start + _UNIT, last))
        keys = [hashlib.sha256(b"%d" % number).hexdigest()[:16] for number in numbers]
        tar = io.BytesIO()
        places = write_members(tar, ((key, {"jpg": key.encode(), "json": b"{}"}) for key in keys))
        rows = []
        for number, key in zip(numbers, keys, strict=True):
            url = f"https://host{number % 9973}.example.org/gallery/{number // 1000}/{key}/picture-{number}.jpg"
            rows.append(
                dict.fromkeys(schema.names)
                | {
                    "id": key,
                    "uri": url,
                    "key": key,
                    "kept": True,
                    "sha256": hashlib.sha256(url.encode()).hexdigest(),
                    "phash": f"{int(rng.integers(1, 2**63)):016x}",
                    "width": 640,
                    "height": 480,
                    "contact": 0.5,
                    "sharpness": 100.0,
                    "licence": "CC-BY-4.0",
                    "author": f"Author Number {number % 50_000}",
                    "page": f"https://host{number % 9973}.example.org/page/{number}",
                    "columns": [
                        ("original_sha256", hashlib.sha256(key.encode()).hexdigest()),
                        ("fetched_at", "2026-01-01"),
                    ],
                    "evidence": [
                        ("decision", "permitted"),
                        ("robots", "allowed by /robots.txt, group *"),
                        ("tdmrep", "none"),
                    ],
                    "offset": places[key][0],
                    "size": places[key][1],
                }
            )
        unit = f"{start:016x}"
        files = {
            part_name(unit, "tar"): tar.getvalue(),
            part_name(unit, "parquet"): dump_table(pa.Table.from_pylist(rows, schema)),
        }
        infos = {name: FileInfo(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()}
        manifest = Manifest(unit, len(rows), len(rows), ("read",), {}, {}, "benchmark", infos)
        for name, data in (files | {part_name(unit, "json"): manifest.dumps()}).items():
            (folder / name).write_bytes(data)
    assert Folder(str(folder)).exists(part_name(f"{first:016x}", "json"))


def export(parts: str, output: str) -> None:
    """Export once in this process and print CPU seconds and the peak of its memory in MB."""
    from handface.pipeline.export.config import ExportConfig
    from handface.pipeline.export.release import release

    start = time.process_time()
    made = release([parts], output, ExportConfig())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{time.process_time() - start:.1f} {peak:.0f} {sum(made.samples.values())}")


def main(config: Config) -> None:
    table: dict[str, dict[str, str]] = {}
    before: tuple[int, float] | None = None
    with tempfile.TemporaryDirectory(dir=config.folder) as name:
        parts, done = Path(name) / "parts", 0
        parts.mkdir()
        for rows in config.rows:
            make_parts(parts, done, rows)
            done = rows
            run = subprocess.run(
                [sys.executable, "-c", _RUN, str(parts), str(Path(name) / f"out{rows}")],
                check=True,
                capture_output=True,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            seconds, peak, samples = run.stdout.split()
            growth = f"{(float(peak) - before[1]) * 1024 / (rows - before[0]):.2f}" if before else ""
            table[f"{int(samples):,}"] = {"CPU s": seconds, "peak MB": peak, "kB a further row": growth}
            before = rows, float(peak)
    report("export_memory", tabulate("rows", table), config.save)


if __name__ == "__main__":
    main(tyro.cli(Config))
