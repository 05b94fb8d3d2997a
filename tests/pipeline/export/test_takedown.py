"""Takedowns: the shard rewritten, a tombstone left, finished when interrupted."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg

from handface.jobs import takedown
from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.manifest import read_release
from handface.pipeline.export.release import release
from handface.pipeline.export.takedown import Request, take_down
from tests.pipeline.export.releases import CONFIG, HASHES, files, index, record, write_parts


def test_takedown_rewrites_one_shard_and_leaves_a_tombstone(parts: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    release([parts], str(out), CONFIG)
    before, key = files(out), record(3, "x").sample.key
    shard = next(row["shard"] for row in index(out) if row["key"] == key)
    done = take_down(str(out), Request(urls=("https://host3.org/3.jpg",), reason="asked by owner"), "2026-01-02")
    assert (done.keys, done.shards, done.revision) == ((key,), (shard,), 2)
    after = files(out)
    assert {n for n in before if n.endswith(".tar") and before[n] != after.get(n)} == {shard}
    rows = index(out)
    assert key not in {row["key"] for row in rows} and len(rows) == 19
    for row in rows:
        assert (out / row["shard"]).read_bytes()[row["offset"] : row["offset"] + 16].decode() == row["key"]
    stones = pq.read_table(out / "tombstones.parquet").to_pylist()
    assert [(s["key"], s["sha256"], s["reason"], s["date"]) for s in stones] == [
        (key, f"{3:064x}", "asked by owner", "2026-01-02")
    ]
    made = read_release(Folder(str(out)))
    assert made is not None and made.revision == 2 and sum(made.samples.values()) == 19
    assert {name: info.sha256 for name, info in made.files.items()}.items() <= after.items()
    # and a later export that is given the tombstones leaves it out
    config = dataclasses.replace(CONFIG, exclude=(str(out / "tombstones.parquet"),))
    assert release([parts], str(tmp_path / "later"), config).dropped == {"excluded": 1}


def test_who_has_the_original_finds_what_was_stored_of_it(tmp_path: Path) -> None:
    """A crawled photo loses its metadata; the file with it names the sample by checksum, and its tombstone names both files."""
    photo = tmp_path / "mine.jpg"
    photo.write_bytes(simplejpeg.encode_jpeg(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)))
    original = hashlib.sha256(photo.read_bytes()).hexdigest()
    crawled, loose = record(3, "a.org", original_sha256=original), record(4, "b.org", original_sha256="")
    loose.item = dataclasses.replace(loose.item, columns=())  # read from a folder: the file is the original
    parts, out = write_parts(tmp_path / "parts", [crawled, loose]), tmp_path / "out"
    release([parts], str(out), dataclasses.replace(CONFIG, splits={"train": 1.0}))
    found = {row["key"]: row["original_sha256"] for row in index(out)}
    assert found == {crawled.sample.key: original, loose.sample.key: f"{4:064x}"}
    assert takedown.run(takedown.Config(str(out), image=(photo,))) == 0
    assert [row["key"] for row in index(out)] == [loose.sample.key]
    stones = pq.read_table(out / "tombstones.parquet").to_pylist()
    assert (stones[0]["sha256"], stones[0]["original_sha256"]) == (f"{3:064x}", original)
    config = dataclasses.replace(CONFIG, exclude=(str(out / "tombstones.parquet"),))
    assert release([parts], str(tmp_path / "later"), config).dropped == {"excluded": 1}


def test_takedown_of_what_is_not_there_is_remembered(parts: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    release([parts], str(out), CONFIG)
    done = take_down(str(out), Request(sha256=("f" * 64,)), "2026-01-02")
    assert done.keys == () and done.revision == 1
    take_down(str(out), Request(sha256=("f" * 64,)), "2026-01-03")
    (stone,) = pq.read_table(out / "tombstones.parquet").to_pylist()
    assert stone["sha256"] == "f" * 64 and stone["key"] is None


@pytest.mark.parametrize("at", ["takedown.publish", "release.dataset_card", "release.croissant"])
@pytest.mark.parametrize("shard_samples", [4, 1])  # 1: shards disappear
def test_an_interrupted_takedown_is_finished_by_the_same_command(
    parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, shard_samples: int
) -> None:
    """Also once the index no longer names what was removed, and the manifest still does."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    request = Request(phash=tuple(f"{int(HASHES[n]):016x}" for n in (3, 8, 14)))
    for folder in (out, whole):
        release([parts], str(folder), dataclasses.replace(CONFIG, shard_samples=shard_samples))
    with monkeypatch.context() as patch:

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(f"handface.pipeline.export.{at}", dies)
        with pytest.raises(KeyboardInterrupt):
            take_down(str(out), request, "2026-01-02")
    done = take_down(str(out), request, "2026-01-02")
    undisturbed = take_down(str(whole), request, "2026-01-02")
    assert (done.shards, done.revision) == (undisturbed.shards, undisturbed.revision) and len(undisturbed.keys) == 3
    assert files(out) == files(whole)


def test_a_shard_that_loses_everything_disappears(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", [record(n, "one.org") for n in range(5)])
    out = tmp_path / "out"
    release([parts], str(out), ExportConfig(shard_samples=1, splits={"train": 1.0}))
    (tar,) = {row["shard"] for row in index(out) if row["key"] == record(2, "x").sample.key}
    take_down(str(out), Request(keys=(record(2, "x").sample.key,)), "2026-01-02")
    assert not (out / tar).exists() and len(list(out.glob("*.tar"))) == 4


@pytest.mark.parametrize("request_", [{}, {"phash": ("xyz",)}])
def test_bad_requests_are_refused(request_: dict) -> None:
    with pytest.raises(ValueError, match=r"nothing to take down|16 hex digits"):
        Request(**request_)
