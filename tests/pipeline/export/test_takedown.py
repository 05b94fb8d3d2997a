"""Takedowns: the shard rewritten, a tombstone left, finished when interrupted."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg

from handface.jobs import takedown
from handface.jobs.cli import main
from handface.pipeline.contract.exclusion import Exclusion
from handface.pipeline.contract.images.phash import perceptual_hash
from handface.pipeline.contract.images.picture import decode_image
from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.manifest import read_release
from handface.pipeline.export.metadata.coco import write_coco
from handface.pipeline.export.release import release
from handface.pipeline.export.takedown import TakedownRequest, take_down
from tests.pipeline.export.releases import CONFIG, HASHES, files, index, record, write_parts


def test_takedown_rewrites_one_shard_and_leaves_a_tombstone(parts: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    release([parts], str(out), CONFIG)
    before, key = files(out), record(3, "x").sample.key
    shard = next(row["shard"] for row in index(out) if row["key"] == key)
    done = take_down(
        str(out), TakedownRequest(urls=("https://host3.org/3.jpg",), reason="asked by owner"), "2026-01-02"
    )
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
    done = take_down(str(out), TakedownRequest(sha256=("f" * 64,)), "2026-01-02")
    assert done.keys == () and done.revision == 1
    take_down(str(out), TakedownRequest(sha256=("f" * 64,)), "2026-01-03")
    (stone,) = pq.read_table(out / "tombstones.parquet").to_pylist()
    assert stone["sha256"] == "f" * 64 and stone["key"] is None
    take_down(str(out), TakedownRequest(sha256=("e" * 64,)), "2026-01-03")
    assert pq.read_table(out / "tombstones.parquet").num_rows == 2
    assert checksums(out)["tombstones.parquet"] == files(out)["tombstones.parquet"]


def checksums(out: Path) -> dict[str, str]:
    lines = (out / "SHA256SUMS").read_text().splitlines()
    return {name: checksum for checksum, name in (line.split("  ") for line in lines)}


def test_a_copy_that_was_left_out_no_longer_names_what_was_taken_down(tmp_path: Path) -> None:
    records = [*(record(n, f"host{n}.org") for n in range(6)), record(9, "copy.org", phash=int(HASHES[3]))]
    parts, out = write_parts(tmp_path / "parts", records), tmp_path / "out"
    release([parts], str(out), CONFIG)
    (left_out,) = pq.read_table(out / "dropped.parquet").to_pylist()
    stayed = left_out["because"]
    assert stayed in {row["key"] for row in index(out)}
    assert run_command(out, "--key", stayed, "--verify") == 0
    assert pq.read_table(out / "dropped.parquet").to_pylist() == [left_out | {"because": None}]
    # the copy itself is named by nothing but this list, and its checksum there stays true
    assert run_command(out, "--key", left_out["key"], "--verify") == 1  # nothing of it was in the shards
    assert pq.read_table(out / "dropped.parquet").num_rows == 0
    assert checksums(out).items() <= files(out).items()


@pytest.mark.parametrize("at", ["takedown.publish", "release.dataset_card", "release.croissant"])
@pytest.mark.parametrize("shard_samples", [4, 1])  # 1: shards disappear
def test_an_interrupted_takedown_is_finished_by_the_same_command(
    parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, shard_samples: int
) -> None:
    """Also once the index no longer names what was removed, and the manifest still does."""
    out, whole = tmp_path / "out", tmp_path / "whole"
    request = TakedownRequest(phash=tuple(f"{int(HASHES[n]):016x}" for n in (3, 8, 14)))
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
    take_down(str(out), TakedownRequest(keys=(record(2, "x").sample.key,)), "2026-01-02")
    assert not (out / tar).exists() and len(list(out.glob("*.tar"))) == 4


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({}, "nothing to take down"),
        ({"phash": ("xyz",)}, "16 hex digits"),
        ({"keys": ("e",)}, "--key 'e': expected 16 hex digits"),
        ({"sha256": ("f" * 63,)}, "--sha256 .*: expected 64 hex digits"),
        (
            {"urls": ("photos/3.jpg",)},
            "--url 'photos/3.jpg': no web address; a file of this machine is named by --image",
        ),
    ],
)
def test_bad_requests_are_refused(request_: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TakedownRequest(**request_)


def run_command(out: Path, *arguments: str) -> int:
    return main(["takedown", str(out), *arguments])


@pytest.mark.parametrize(
    "address",
    [
        "http://host3.org/3.jpg",
        "https://host3.org/3.jpg#top",
        "https://host3.org/3.jpg?",
        "  HTTPS://Host3.org:443/a/../3.jpg",
        "https://old.example/moved.jpg",
        "http://cdn.example/final.jpg",
    ],
)
def test_any_address_of_a_picture_takes_it_down_and_keeps_it_out(tmp_path: Path, address: str) -> None:
    records = [record(n, f"host{n}.org") for n in range(6)]
    records[3] = record(3, "host3.org", moved_from="https://old.example/moved.jpg")
    records[3].evidence["answered_by"] = "https://cdn.example/final.jpg"
    parts, out = write_parts(tmp_path / "parts", records), tmp_path / "out"
    release([parts], str(out), CONFIG)
    assert take_down(str(out), TakedownRequest(urls=(address,)), "2026-01-02").keys == (records[3].sample.key,)
    listed = Exclusion.read(str(out / "tombstones.parquet"))
    for name in ("https://host3.org/3.jpg", "http://old.example/moved.jpg", "https://cdn.example/final.jpg"):
        assert listed.names(name, set(), 0)
    config = dataclasses.replace(CONFIG, exclude=(str(out / "tombstones.parquet"),))
    assert release([parts], str(tmp_path / "later"), config).dropped == {"excluded": 1}


def test_the_last_sample_can_be_taken_down(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", [record(n, "one.org") for n in range(2)])
    out = tmp_path / "out"
    release([parts], str(out), CONFIG)
    done = take_down(str(out), TakedownRequest(keys=tuple(record(n, "x").sample.key for n in range(2))), "2026-01-02")
    made = read_release(Folder(str(out)))
    assert made is not None and len(done.keys) == 2 and sum(made.samples.values()) == 0
    assert index(out) == [] and not list(out.glob("*.tar"))
    assert "Nothing is left in it" in (out / "README.md").read_text()
    assert release([parts], str(out), CONFIG) == made  # the same export finds it as it is
    assert take_down(str(out), TakedownRequest(urls=("https://one.org/1.jpg",)), "2026-01-03").keys == ()
    assert main(["stats", str(out)]) == 0


def test_coco_folders_lose_the_picture(parts: str, tmp_path: Path) -> None:
    out, beside, far = tmp_path / "out", tmp_path / "coco", tmp_path / "a" / "b" / "c"
    release([parts], str(out), CONFIG)
    write_coco(str(out), str(beside))
    shutil.copytree(beside, far)
    key = record(3, "x").sample.key
    done = take_down(str(out), TakedownRequest(keys=(key,)), "2026-01-02", (str(far),))
    assert done.pictures == 2
    for folder in (beside, far):
        assert not list(folder.rglob(f"{key}*")) and len(list(folder.rglob("*.jpg"))) == 19
        assert key not in "".join(path.read_text() for path in folder.rglob("labels.json"))
    shutil.rmtree(beside)
    shutil.copytree(far, beside)
    (beside / "train" / "data" / f"{key}.jpg").write_bytes(b"a copy that came back")
    write_coco(str(out), str(beside))
    assert not list(beside.rglob(f"{key}*"))


def test_what_a_killed_takedown_left_goes_with_the_next(parts: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    release([parts], str(out), CONFIG)
    shard = next(out.glob("*.tar"))
    (out / f".tmp-{shard.name}.x1").write_bytes(shard.read_bytes())
    (out / ".tmp-index-x2").mkdir()
    release([parts], str(out), CONFIG)
    assert not list(out.glob(".tmp-*"))


def test_two_takedowns_at_once_are_one_after_the_other(parts: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    release([parts], str(out), dataclasses.replace(CONFIG, shard_samples=20))
    keys = [record(n, "x").sample.key for n in range(20)]
    commands = [
        subprocess.Popen([sys.executable, "-m", "handface", "takedown", str(out), "--key", *keys[n::4]])
        for n in range(2)
    ]
    assert [command.wait(timeout=120) for command in commands] == [0, 0]
    made = read_release(Folder(str(out)))
    gone = {*keys[0::4], *keys[1::4]}
    assert made is not None and made.revision == 3 and sum(made.samples.values()) == 10
    assert {row["key"] for row in index(out)} == set(keys) - gone
    assert {s["key"] for s in pq.read_table(out / "tombstones.parquet").to_pylist()} == gone


def test_verify_says_where_a_picture_still_is(parts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, photos = tmp_path / "out", tmp_path / "photos"
    release([parts], str(out), CONFIG)
    key = record(3, "x").sample.key
    shard = next(row["shard"] for row in index(out) if row["key"] == key)
    kept_copy = (out / shard).read_bytes()
    photos.mkdir()
    (photos / "mine.jpg").write_bytes(b"a photo")
    checksum = hashlib.sha256(b"a photo").hexdigest()
    assert run_command(out, "--key", key, "--sha256", checksum, "--verify") == 0
    assert "found in 0 files" in capsys.readouterr().out
    # a copy of everything, as a killed command, a cache or a person leaves it
    (out / f".tmp-{shard}.abc").write_bytes(kept_copy)
    (out / "list.csv.gz").write_bytes(gzip.compress(b"x,https://host3.org/3.jpg,y"))
    (out / "report.html").write_text('{"url":"http:\\/\\/b.org","key":"' + key.upper() + '"}')
    (out / "other.txt").write_text("https://host3.org/3.jpg2 https://host3.org/3.jpg/4 https://host3.org/33.jpg")
    assert run_command(out, "--verify", "--look-in", parts, str(photos)) == 1
    said = capsys.readouterr().out
    files = {line.removeprefix("still there: ").partition(": ")[0] for line in said.splitlines() if "still" in line}
    part = next(p for p in Path(parts).glob("*.tar") if key.encode() in p.read_bytes())
    expected = [out / f".tmp-{shard}.abc", out / "list.csv.gz", out / "report.html", photos / "mine.jpg"]
    expected += [part, part.with_suffix(".parquet")]
    assert files == {str(path) for path in expected}


def test_a_list_that_names_nothing_is_said(parts: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names, idle = tmp_path / "names.parquet", tmp_path / "idle.parquet"
    pq.write_table(pa.table({"sha256": [f"{3:064X}", f"{4:064x}"]}), names)
    pq.write_table(pa.table({"key": ["0" * 16], "url": ["https://else.org/1.jpg"]}), idle)
    config = dataclasses.replace(CONFIG, exclude=(str(names), str(idle)))
    assert release([parts], str(tmp_path / "out"), config).dropped == {"excluded": 2}
    warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert warnings == [f"{idle}: 2 entries name 0 of the samples"]


def test_a_picture_is_hashed_as_annotate_hashes_it(tmp_path: Path) -> None:
    """Transparent and turned pictures too."""
    from PIL import Image

    rng = np.random.default_rng(5)
    smooth = np.kron(rng.integers(0, 255, (8, 6, 3), np.uint8), np.ones((32, 32, 1), np.uint8))
    alpha = np.zeros(smooth.shape[:2], np.uint8)
    alpha[40:200, 20:150] = 255
    picture = Image.fromarray(np.dstack([smooth, alpha]))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "mine.png", exif=exif)
    value = perceptual_hash(decode_image((tmp_path / "mine.png").read_bytes()))
    parts = write_parts(tmp_path / "parts", [record(3, "a.org", value), record(4, "b.org")])
    out = tmp_path / "out"
    release([parts], str(out), CONFIG)
    assert run_command(out, "--image", str(tmp_path / "mine.png")) == 0
    assert [row["key"] for row in index(out)] == [record(4, "x").sample.key]
