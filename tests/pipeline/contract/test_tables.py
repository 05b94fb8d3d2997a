"""Parquet tables as bytes: round trips, equal bytes, what is wrong, and that nothing is left to threads."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.contract.tables import dump_table, load_table


@settings(deadline=None)  # the first one imports
@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.none() | st.text())))
def test_a_table_comes_back_and_equal_tables_give_equal_bytes(rows: list[tuple[int, str | None]]) -> None:
    table = pa.table(
        {"number": pa.array([n for n, _ in rows], pa.int64()), "text": pa.array([t for _, t in rows], pa.string())}
    )
    data = dump_table(table)
    assert load_table(data) == table and dump_table(load_table(data)) == data
    assert load_table(data, ["text"]).to_pydict() == {"text": [text for _, text in rows]}


def test_what_is_no_table_or_lacks_a_column_is_an_error() -> None:
    data = dump_table(pa.table({"a": [1, 2, 3]}))
    with pytest.raises(KeyError, match="no column b"):
        load_table(data, ["a", "b"])
    for broken in (b"", b"PAR1", data[:-1], data[:4] + bytes(len(data) - 12) + data[-8:]):
        with pytest.raises((pa.ArrowInvalid, OSError)):
            load_table(broken)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_reading_starts_no_thread_that_could_outlive_the_interpreter() -> None:
    """A pool's thread that still holds the bytes when Python ends aborts the process; so must be none."""
    code = """
import os, pyarrow as pa, pyarrow.parquet
from handface.pipeline.contract.tables import dump_table, load_table
data = dump_table(pa.table({name: list(range(1000)) for name in "abcdefgh"}))
before = len(os.listdir("/proc/self/task"))
assert load_table(data).num_rows == 1000
print(len(os.listdir("/proc/self/task")) - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "0"
