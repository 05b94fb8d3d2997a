"""Which samples are published: copies, exclusion lists, test sets, subsets."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handface.pipeline.export.catalogue import ExportError
from handface.pipeline.export.query import QueryError, parse_query
from handface.pipeline.export.release import release
from tests.pipeline.export.releases import CONFIG, HASHES, index, record, write_parts


def test_copies_are_dropped_or_stay_together(tmp_path: Path) -> None:
    near = int(HASHES[0]) ^ 0b101
    units = [record(n, f"h{n}.org") for n in range(12)] + [record(50, "copy.org", near)]
    parts = write_parts(tmp_path / "parts", units)
    made = release([parts], str(tmp_path / "dropped"), CONFIG)
    assert made.dropped == {"copy": 1} and sum(made.samples.values()) == 12
    assert "| export | a copy of a sample that stays | 1 |" in (tmp_path / "dropped/README.md").read_text()
    (gone,) = pq.read_table(tmp_path / "dropped/dropped.parquet").to_pylist()
    pair = sorted([units[0].sample.key, units[-1].sample.key])
    assert (gone["key"], gone["because"]) == (pair[1], pair[0])  # the smaller key stays
    for seed in range(6):
        config = dataclasses.replace(CONFIG, dedupe_distance=-1, seed=seed)
        made = release([parts], str(tmp_path / f"kept{seed}"), config)
        split = {row["key"]: row["split"] for row in index(tmp_path / f"kept{seed}")}
        assert len(split) == 13 and split[pair[0]] == split[pair[1]]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", record(3, "x").sample.key),
        ("dropped", record(3, "x").sample.key),
        ("sha256", f"{3:064x}"),
        ("sha256", f"{1003:064x}"),
        ("original_sha256", f"{1003:064x}"),
        ("uri", "https://host3.org/3.jpg"),
        ("phash", f"{int(HASHES[3]) ^ 1:016x}"),
    ],
)
def test_exclusion_lists_are_honoured(parts: str, tmp_path: Path, column: str, value: str) -> None:
    listed = tmp_path / "list.parquet"
    pq.write_table(pa.table({column: [value, None]}), listed)
    made = release([parts], str(tmp_path / "out"), dataclasses.replace(CONFIG, exclude=(str(listed),)))
    assert made.dropped == {"excluded": 1}
    assert record(3, "x").sample.key not in {row["key"] for row in index(tmp_path / "out")}


def test_test_sets_are_kept_out(parts: str, tmp_path: Path) -> None:
    benchmark = write_parts(tmp_path / "benchmark", [record(60, "b.org", int(HASHES[7]) ^ 0b11)])
    listed = tmp_path / "hashes.parquet"
    pq.write_table(pa.table({"phash": [f"{int(HASHES[9]):016x}"]}), listed)
    config = dataclasses.replace(CONFIG, test_sets={"decaf": benchmark, "other": str(listed)})
    made = release([parts], str(tmp_path / "out"), config)
    assert made.dropped == {"in_test_set": 2}
    dropped = pq.read_table(tmp_path / "out/dropped.parquet").to_pylist()
    assert {row["because"]: row["key"] for row in dropped} == {
        "decaf": record(7, "x").sample.key,
        "other": record(9, "x").sample.key,
    }


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("contact >= 0.15", range(15, 20)),
        ("0.03 <= contact < 0.06", range(3, 6)),
        ("host in ('host1.org', 'host2.org') and not contact > 0.09", [1, 2, 6, 7]),
        ("licence == 'CC0-1.0' and author == None", range(20)),
        ("contact < 0.01 or contact > 0.185", [0, 19]),
    ],
)
def test_subsets(parts: str, tmp_path: Path, query: str, numbers: list[int]) -> None:
    release([parts], str(tmp_path / "out"), dataclasses.replace(CONFIG, subset=query))
    assert {row["key"] for row in index(tmp_path / "out")} == {record(n, "x").sample.key for n in numbers}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("contact >", "invalid syntax"),
        ("contacts > 1", "no column 'contacts'"),
        ("__import__('os').system('x')", "expected a comparison"),
        ("contact > open('x')", "expected a number"),
        ("host in 'abc'", "wants a list of values; for one write .'abc'."),
        ("licence in ('CC0-1.0')", "wants a list of values; for one write .'CC0-1.0'."),
        ("contact is 3", "operator is not known"),
    ],
)
def test_bad_queries_are_explained(query: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse_query(query, pa.schema([("contact", pa.float64()), ("host", pa.string())]))


def test_an_empty_selection_is_an_error(parts: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="nothing is left"):
        release([parts], str(tmp_path / "out"), dataclasses.replace(CONFIG, subset="contact > 5"))
    with pytest.raises(ExportError, match="no finished parts"):
        release([str(tmp_path)], str(tmp_path / "out"), CONFIG)
