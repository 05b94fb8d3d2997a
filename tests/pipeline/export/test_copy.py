"""Samples copied as they lie: where they are, what is refused, and every byte of the shards."""

from __future__ import annotations

import hashlib
import json
import tarfile
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from handface.pipeline.contract.shards import ShardError
from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.catalogue import ExportError, read_catalogue
from handface.pipeline.export.extents import sample_extents
from handface.pipeline.export.manifest import read_release
from handface.pipeline.export.release import release
from tests.pipeline.export.releases import CONFIG, files, index


def test_extents_find_what_tarfile_finds_and_refuse_the_rest(parts: str, tmp_path: Path) -> None:
    for path in Path(parts).glob("*.tar"):
        data = path.read_bytes()
        extents = list(sample_extents(path.name, len(data), lambda o, n, data=data: data[o : o + n]))
        with tarfile.open(path) as tar:
            starts = {}
            for member in tar:
                starts.setdefault(member.name.partition(".")[0], member.offset)
        assert {e.key: e.start for e in extents} == starts
        assert all(b.start == a.start + a.size for a, b in pairwise(extents))
        with pytest.raises(ShardError, match="cut off at byte"):
            short = len(data) - 12_000
            list(sample_extents("x.tar", short, lambda o, n, data=data, short=short: data[:short][o : o + n]))
    linked = tmp_path / "linked.tar"
    with tarfile.open(linked, "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    data = linked.read_bytes()
    with pytest.raises(ShardError, match="symbolic link"):
        list(sample_extents("linked.tar", len(data), lambda o, n: data[o : o + n]))


def swap_tar(parts: str) -> None:
    """Give the first part the second one's tar, and a manifest that says its size."""
    first, second = sorted(Path(parts).glob("*.tar"))
    data = second.read_bytes()
    first.write_bytes(data)
    manifest = first.with_suffix(".json")
    raw = json.loads(manifest.read_text())
    raw["files"][first.name]["bytes"] = len(data)
    manifest.write_text(json.dumps(raw))


def forget_places(parts: str) -> None:
    """Tables as parts had them before they said where samples lie."""
    for path in Path(parts).glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["offset", "size"]), path)
        manifest = path.with_suffix(".json")
        raw = json.loads(manifest.read_text())
        raw["files"][path.name]["bytes"] = path.stat().st_size
        manifest.write_text(json.dumps(raw))


def test_a_part_whose_tar_and_table_differ_is_refused(parts: str, tmp_path: Path) -> None:
    swap_tar(parts)
    with pytest.raises(ExportError, match="does not hold, where its table says, sample"):
        release([parts], str(tmp_path / "out"), CONFIG)
    assert read_release(Folder(str(tmp_path / "out"))) is None
    forget_places(parts)
    with pytest.raises(ExportError, match="other samples than its table"):
        release([parts], str(tmp_path / "out"), CONFIG)


def test_a_part_that_is_cut_off_is_refused(parts: str, tmp_path: Path) -> None:
    first, _ = sorted(Path(parts).glob("*.tar"))
    size = first.stat().st_size
    with first.open("r+b") as stream:
        stream.truncate(1000)
    catalogue = read_catalogue([parts])  # without it
    assert len(catalogue.tars) == 1
    with first.open("r+b") as stream:
        stream.truncate(size)  # now it has its size, and zeros inside
    with pytest.raises(ExportError, match="does not hold"):
        release([parts], str(tmp_path / "out"), CONFIG)


def test_parts_whose_tables_do_not_say_where_samples_lie_give_the_same_bytes(parts: str, tmp_path: Path) -> None:
    release([parts], str(tmp_path / "a"), CONFIG)
    forget_places(parts)
    release([parts], str(tmp_path / "b"), CONFIG)
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("chunk", [700, 4096, 1 << 20])
def test_shards_are_the_samples_one_behind_the_other(
    parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """The bytes of every shard, put together in another way: whole samples, each split in the order of seed and key."""
    monkeypatch.setattr("handface.pipeline.export.write._CHUNK", chunk)
    out = tmp_path / "out"
    tag = release([parts], str(out), CONFIG).fingerprint[:8]
    samples: dict[str, bytes] = {}
    for path in Path(parts).glob("*.tar"):
        data = path.read_bytes()
        with tarfile.open(path) as tar:
            for member in tar:
                end = member.offset_data + -(-member.size // 512) * 512
                key = member.name.partition(".")[0]
                samples[key] = samples.get(key, b"") + data[member.offset : end]
    split = {row["key"]: row["split"] for row in index(out)}
    order = sorted(samples, key=lambda key: hashlib.sha256(f"0:order:{key}".encode()).digest())
    for name in CONFIG.splits:
        keys = [key for key in order if split[key] == name]
        shards = [keys[start : start + 4] for start in range(0, len(keys), 4)]
        for number, shard in enumerate(shards):
            expected = b"".join(samples[key] for key in shard) + bytes(1024)
            assert (out / f"{name}-{tag}-{number:06d}.tar").read_bytes() == expected
        assert len(shards) == len(list(out.glob(f"{name}-*.tar")))
