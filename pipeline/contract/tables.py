"""Parquet tables as bytes: the one place where they are read and written whole."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def load_table(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table, or some of its columns. Raises pyarrow.ArrowInvalid or OSError if it is no parquet file, KeyError for a column it lacks.

    On this thread alone: `pq.read_table` may leave the last reference to the bytes with a thread of its pool, which aborts the
    process if it ends just then (github.com/apache/arrow/issues/34314; one `handface validate` in ten did).
    """
    import pyarrow.parquet as pq

    file = pq.ParquetFile(io.BytesIO(data), pre_buffer=False)
    if missing := set(columns or ()) - set(file.schema_arrow.names):
        raise KeyError(f"no column {', '.join(sorted(missing))}")
    return file.read(columns=columns, use_threads=False)


def dump_table(table: pa.Table) -> bytes:
    """The table as a parquet file; equal tables give equal bytes."""
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_page_index=False)
    return buffer.getvalue()
