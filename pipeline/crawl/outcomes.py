"""The list of a crawl's outcomes: `urls.parquet`, one row per URL over all rounds, with its last word."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from handface.pipeline.contract.parts import row_schema

if TYPE_CHECKING:
    from handface.pipeline.crawl.rounds import Crawl

URLS = "urls.parquet"


def write_outcomes(crawl: Crawl) -> Counter[str]:
    """Write the list and return how many URLs ended in each way ("kept" or the reason). Raises StorageError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = row_schema().append(pa.field("round", pa.int32())).append(pa.field("part", pa.string()))
    counts: Counter[str] = Counter()
    with crawl.folder.writer(URLS) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        for table in crawl.outcomes():
            counts.update(reason or "kept" for reason in table["reason"].to_pylist())
            writer.write_table(table.cast(schema))
    return counts
