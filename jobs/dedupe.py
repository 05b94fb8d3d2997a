"""`handface dedupe PARTS...`: find copies across units and runs; the sample with the smallest key of each family stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import tyro

from handface.jobs.shared.outputs import OneFile
from handface.pipeline.contract.config import Distance


@dataclass(frozen=True)
class Config:
    """Compare the kept samples of finished parts by perceptual hash and checksum, and write the copies down; no part is changed."""

    parts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders or URIs that hold parts, or that `handface crawl` wrote."""
    output: Annotated[str, OneFile()] = "duplicates.parquet"
    """Parquet file or fsspec URI: columns dropped, kept, distance."""
    max_distance: Distance = 6
    """Bits of 64 in which two hashes of copies may differ, 0 to 11."""


def run(config: Config) -> int:
    """Write the table. Returns 0, or 1 if there was nothing to compare or a part was damaged."""
    import pyarrow as pa

    from handface.pipeline.contract.damage import TABLES, Damage
    from handface.pipeline.contract.storage import absolute, write_file
    from handface.pipeline.contract.tables import dump_table
    from handface.pipeline.export.dedupe import Hashed, find_duplicates
    from handface.pipeline.sources.crawl import finished_parts

    total = unhashed = 0
    damage = Damage(TABLES)

    def kept() -> Iterator[Hashed]:
        nonlocal total, unhashed
        for part in (part for uri in config.parts for part in finished_parts(absolute(uri), damage)):
            rows = part.rows(["kept", "key", "phash", "sha256"]).to_pylist()
            for row in rows:
                if row["kept"]:
                    total += 1
                    unhashed += not row["phash"]
                    yield Hashed(row["key"], row["phash"], row["sha256"])

    found = find_duplicates(kept(), config.max_distance)
    columns = {name: [getattr(one, name) for one in found] for name in ("dropped", "kept", "distance")}
    types = [pa.string(), pa.string(), pa.int32()]
    table = pa.table({name: pa.array(columns[name], kind) for name, kind in zip(columns, types, strict=True)})
    write_file(config.output, dump_table(table))
    families = len({one.kept for one in found})
    print(f"{total:,} samples, {len(found):,} copies of {families:,} of them, written to {config.output}")
    if unhashed:
        print(
            f"{unhashed:,} have no perceptual hash (crawled or synthetic) and were compared by checksum alone; "
            "`handface annotate` adds hashes to crawled pictures"
        )
    return max(damage.report(), 0 if total else 1)


if __name__ == "__main__":
    import sys

    from handface.jobs.cli import main_for

    sys.exit(main_for("dedupe"))
