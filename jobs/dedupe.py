"""`handface dedupe PARTS...`: find copies across units and runs; the sample with the smallest key of each family stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Config:
    """Compare the kept samples of finished parts by perceptual hash and write the copies down; no part is changed."""

    parts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders or URIs that hold parts."""
    output: str = "duplicates.parquet"
    """Parquet file or fsspec URI: columns dropped, kept, distance."""
    max_distance: int = 6
    """Bits of 64 in which two hashes of copies may differ, 0 to 11."""


def run(config: Config) -> int:
    """Write the table; exit code 0."""
    import pyarrow as pa

    from handface.pipeline.contract.parts import read_parts
    from handface.pipeline.contract.storage import write_file
    from handface.pipeline.contract.tables import dump_table
    from handface.pipeline.export.dedupe import Hashed, find_duplicates

    def kept() -> Iterator[Hashed]:
        for folder in config.parts:
            for part in read_parts(folder):
                rows = part.rows(["kept", "key", "phash", "sha256"]).to_pylist()
                yield from (Hashed(row["key"], row["phash"], row["sha256"]) for row in rows if row["kept"])

    samples = list(kept())
    found = find_duplicates(samples, config.max_distance)
    columns = {name: [getattr(one, name) for one in found] for name in ("dropped", "kept", "distance")}
    types = [pa.string(), pa.string(), pa.int32()]
    table = pa.table({name: pa.array(columns[name], kind) for name, kind in zip(columns, types, strict=True)})
    write_file(config.output, dump_table(table))
    families = len({one.kept for one in found})
    print(f"{len(samples):,} samples, {len(found):,} copies of {families:,} of them, written to {config.output}")
    return 0


if __name__ == "__main__":
    import sys

    from handface.jobs.cli import main_for

    sys.exit(main_for("dedupe"))
