"""The ledger of a crawl: `urls.parquet`, one row per URL over all rounds, with its last word."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from handface.pipeline.contract.parts import row_schema

if TYPE_CHECKING:
    from handface.pipeline.crawl.rounds import Crawl

URLS = "urls.parquet"


def write_outcomes(crawl: Crawl) -> Counter[str]:
    """Write the ledger and return how many URLs ended in each way ("kept" or the reason)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = row_schema().append(pa.field("round", pa.int32())).append(pa.field("part", pa.string()))
    counts: Counter[str] = Counter()
    with crawl.folder.writer(URLS) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        outcomes = crawl.outcomes()
        while rows := list(islice(outcomes, 8192)):
            counts.update(row["reason"] or "kept" for row in rows)
            writer.write_table(pa.Table.from_pylist(rows, schema))
    return counts
