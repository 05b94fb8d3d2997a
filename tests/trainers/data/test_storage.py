"""Shards on storage that answers slowly, by halves, or not at all; what is asked of it and what is held in memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from handface.pipeline.contract.names import addresses
from handface.pipeline.contract.sample import encode
from handface.pipeline.contract.shards import write_members
from handface.trainers.data import DataConfig, DataError, DatasetConfig, make_loader
from handface.trainers.data.shards.index import index_shard, scan_shard
from handface.trainers.data.shards.store import open_dataset
from handface.trainers.data.shards.tar_walk import walk_headers
from handface.trainers.run_folder import storage

MakeConfig = Callable[..., DataConfig]


def write_part(folder: Path, samples: list[Any], filler: int = 0) -> Path:
    """A tar and the table that a part has beside it. filler: bytes of a further member of each sample."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = [(s.key, dict(encode(s)) | ({"bin": os.urandom(filler)} if filler else {})) for s in samples]
    with (folder / "part-0.tar").open("wb") as stream:
        places = write_members(stream, groups)
    rows = {"key": [None, *places], "offset": [None, *(p[0] for p in places.values())]}
    pq.write_table(pa.table(rows | {"size": [None, *(p[1] for p in places.values())]}), folder / "part-0.parquet")
    return folder / "part-0.tar"


@pytest.fixture
def samples(make_sample: Any) -> list[Any]:
    return [make_sample(seed, side=64, depth=False) for seed in range(24)]


def test_table_walk_and_careful_reader_find_the_same_samples(samples: list[Any], tmp_path: Path) -> None:
    tar = write_part(tmp_path, samples)
    by_table = index_shard(str(tar), tmp_path / "a")
    (tmp_path / "part-0.parquet").unlink()
    walked = index_shard(str(tar), tmp_path / "b")
    MemoryFileSystem().pipe_file("/careful/part-0.tar", tar.read_bytes())
    careful = scan_shard("memory://careful/part-0.tar")
    assert by_table.keys == walked.keys == careful[0] == tuple(sample.key for sample in samples)
    assert walked.starts.tolist() == by_table.starts.tolist() == careful[1].tolist()
    assert walked.sizes.tolist() == careful[2].tolist() and walked.starts.dtype == walked.sizes.dtype == np.uint32
    padded = (walked.sizes.astype(int) + 511) // 512 * 512
    assert by_table.sizes.tolist() == padded.tolist()


def test_a_table_that_does_not_fit_its_tar_is_not_believed(samples: list[Any], tmp_path: Path) -> None:
    tar = write_part(tmp_path, samples)
    stale = (tmp_path / "part-0.parquet").read_bytes()
    write_part(tmp_path, samples[:9])
    (tmp_path / "part-0.parquet").write_bytes(stale)
    assert len(index_shard(str(tar), tmp_path / "a").keys) == 9
    footer = bytearray(stale)
    footer[-60:-8] = b"\xff" * 52  # its length stays
    for number, damaged in enumerate((b"no parquet", bytes(footer))):
        (tmp_path / "part-0.parquet").write_bytes(damaged)
        assert len(index_shard(str(tar), tmp_path / f"b{number}").keys) == 9


@pytest.mark.parametrize("change", [b"", b"x"])
def test_the_quick_walk_leaves_what_is_unusual_to_the_careful_reader(
    samples: list[Any], tmp_path: Path, change: bytes
) -> None:
    tar = write_part(tmp_path, samples[:2]).read_bytes()
    assert walk_headers(tar) is not None
    first = tar.index(b"\0")
    for spoilt in (
        tar[:700],
        tar[: len(tar) // 2],
        b"/" + tar[1:],
        tar[:148] + b"0000000\0" + tar[156:],
        tar[:156] + b"2" + tar[157:],
        tar[:first] + b"\x07" + tar[first + 1 :],
        tar[:345] + b"prefix" + tar[351:],
        tar.rstrip(b"\0") + change,
    ):
        assert walk_headers(spoilt) is None


def test_the_table_of_a_data_set_takes_eight_bytes_a_sample(tmp_path: Path) -> None:
    """200,000 samples by their parts' tables: indexed in seconds, and nothing in memory grows with the length of names."""
    count, shards = 20_000, 10
    for shard in range(shards):
        tar = tmp_path / f"part-{shard}.tar"
        with tar.open("wb") as stream:
            stream.truncate(count * 1024 + 10240)
        names = [f"{shard:02d}-{k:030d}" for k in range(count)]
        offsets = np.arange(count) * 1024
        table = {"key": names, "offset": offsets, "size": np.full(count, 1024)}
        pq.write_table(pa.table(table), tmp_path / f"part-{shard}.parquet")
    start = time.process_time()
    config = DatasetConfig("many", (str(tmp_path),))
    table = open_dataset(config, str(tmp_path / "index"))
    assert time.process_time() - start < 5
    assert len(table) == count * shards
    held = sum(value.nbytes for value in vars(table).values() if isinstance(value, np.ndarray))
    assert held <= 8 * len(table) + 8 * shards
    data = DataConfig((config,), workers=0, index_folder=str(tmp_path / "index"))
    loader = make_loader(data)
    order = loader._source.order
    for position in (0, 5, 200_001):
        order(position)
    held += sum(rows.nbytes for rows in order._passes.values())  # type: ignore[attr-defined]
    assert held <= 20 * len(table)
    assert table.uri(0).endswith("part-0.tar") and table.uri(len(table) - 1).endswith("part-9.tar")


class Flaky(MemoryFileSystem):
    """Memory that counts what is asked of it and may be away."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked = 0
    requests = 0
    away = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.removeprefix("flaky:/"))
        return stripped

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        if Flaky.away:
            Flaky.away -= 1
            raise ConnectionResetError("away")
        data: bytes = super().cat_file(path, start, end, **options)
        Flaky.asked += len(data)
        Flaky.requests += 1
        return data

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        stream = super()._open(path, mode, **options)
        read = stream.read

        def counted(size: int = -1) -> bytes:
            data: bytes = read(size)
            Flaky.asked += len(data)
            return data

        stream.read = counted
        return stream


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[Flaky]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    monkeypatch.setattr(addresses, "STORAGE", addresses.STORAGE | {"flaky"})
    monkeypatch.setattr(storage, "_FIRST_PAUSE_S", 0.01)
    Flaky.store.clear()
    Flaky.asked = Flaky.requests = Flaky.away = 0
    return Flaky


def test_before_the_first_step_hardly_more_is_asked_for_than_that_step_needs(
    config: MakeConfig, samples: list[Any], tmp_path: Path, flaky: type[Flaky]
) -> None:
    tar = write_part(tmp_path, samples, filler=200_000)
    for name in ("part-0.tar", "part-0.parquet"):
        flaky().pipe_file(f"/set/{name}", (tmp_path / name).read_bytes())
    loader = make_loader(config(DatasetConfig("set", ("flaky://set",)), batch_size=2))
    assert flaky.asked < 0.02 * tar.stat().st_size
    next(iter(loader))
    assert flaky.requests == 2 and flaky.asked < 2.2 / 24 * tar.stat().st_size


def test_storage_that_is_away_for_a_while_costs_no_sample(
    config: MakeConfig, samples: list[Any], tmp_path: Path, flaky: type[Flaky]
) -> None:
    tar = write_part(tmp_path, samples)
    flaky().pipe_file("/set/part-0.tar", tar.read_bytes())
    local = [batch.keys for batch in islice(make_loader(config(DatasetConfig("set", (str(tar),)))), 3)]
    loader = make_loader(config(DatasetConfig("set", ("flaky://set",))))
    flaky.away = 7
    assert [batch.keys for batch in islice(loader, 3)] == local
    assert flaky.away == 0 and not loader.bad


def test_storage_that_stays_away_ends_the_run_with_its_name_after_patience(
    config: MakeConfig, samples: list[Any], tmp_path: Path, flaky: type[Flaky]
) -> None:
    tar = write_part(tmp_path, samples)
    flaky().pipe_file("/set/part-0.tar", tar.read_bytes())
    loader = make_loader(config(DatasetConfig("set", ("flaky://set",)), patience=0.3))
    flaky.away = 10**9
    start = time.monotonic()
    with pytest.raises(DataError, match=r"flaky://.*part-0\.tar: no answer in 0 s \(ConnectionResetError: away\)"):
        next(iter(loader))
    assert 0.1 < time.monotonic() - start < 20


def test_a_shard_that_goes_away_is_said_at_once(
    config: MakeConfig, samples: list[Any], tmp_path: Path, flaky: type[Flaky]
) -> None:
    tar = write_part(tmp_path, samples)
    flaky().pipe_file("/set/part-0.tar", tar.read_bytes())
    loader = make_loader(config(DatasetConfig("set", ("flaky://set",)), patience=300.0))
    flaky().rm_file("/set/part-0.tar")
    with pytest.raises(DataError, match=r"part-0\.tar: is not there any more; put it back"):
        next(iter(loader))


def test_one_read_error_of_a_local_disk_makes_no_bad_sample(
    config: MakeConfig, samples: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_FIRST_PAUSE_S", 0.01)
    tar = write_part(tmp_path, samples)
    pread, failures = os.pread, [3]

    def failing(*arguments: int) -> bytes:
        if failures[0]:
            failures[0] -= 1
            raise OSError(5, "Input/output error")
        return pread(*arguments)

    loader = make_loader(config(DatasetConfig("set", (str(tar),))))
    monkeypatch.setattr(os, "pread", failing)
    next(iter(loader))
    assert failures == [0] and not loader.bad
