"""Lists of found points: what is written is read, other files are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from handface.pipeline.contract.found_points import FoundPoints, FoundPointsError, dump_points
from handface.pipeline.contract.tables import dump_table


def some(*keys: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=(89, 3)).astype(np.float32) for key in keys}


def test_what_is_written_is_read_whatever_the_order(tmp_path: Path) -> None:
    first, second = some("b" * 16, "a" * 16), some("c" * 16, seed=1)
    (tmp_path / "1.parquet").write_bytes(dump_points(first))
    (tmp_path / "2.parquet").write_bytes(dump_points(second))
    found = FoundPoints.read([str(tmp_path / "2.parquet"), str(tmp_path / "1.parquet")])
    assert len(found) == 3
    for key, points in (first | second).items():
        np.testing.assert_array_equal(found.of(key), points)
    assert found.of("0" * 16) is None and found.of("f" * 16) is None


def test_without_lists_nothing_is_found(tmp_path: Path) -> None:
    assert FoundPoints.read(()).of("a" * 16) is None
    (tmp_path / "none.parquet").write_bytes(dump_points({}))
    assert len(FoundPoints.read([str(tmp_path / "none.parquet")])) == 0


def test_lists_may_repeat_a_key_but_not_contradict_each_other(tmp_path: Path) -> None:
    key = "a" * 16
    for name, seed in (("1", 0), ("same", 0), ("other", 1)):
        (tmp_path / f"{name}.parquet").write_bytes(dump_points(some(key, seed=seed)))
    assert len(FoundPoints.read([str(tmp_path / "1.parquet"), str(tmp_path / "same.parquet")])) == 1
    with pytest.raises(FoundPointsError, match=f"different points of {key}"):
        FoundPoints.read([str(tmp_path / "1.parquet"), str(tmp_path / "other.parquet")])


@pytest.mark.parametrize(
    "data",
    [
        b"not a table",
        dump_table(pa.table({"key": ["a" * 16]})),
        dump_table(pa.table({"key": ["a" * 16], "points": [[1.0, 2.0]]})),
        dump_table(pa.table({"key": ["a" * 16], "points": ["many"]})),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(FoundPointsError, match=r"x\.parquet: no list of found points.*267 numbers"):
        FoundPoints.read([str(tmp_path / "x.parquet")])


def test_an_absent_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.parquet"):
        FoundPoints.read([str(tmp_path / "absent.parquet")])
