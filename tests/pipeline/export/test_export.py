"""Releases: reproducible bytes, honest splits, copies and exclusions, takedowns, metadata that others read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import takedown
from pipeline.export.catalogue import ExportError, host_of, read_catalogue
from pipeline.export.coco import write_coco
from pipeline.export.config import ExportConfig
from pipeline.export.extents import sample_extents
from pipeline.export.manifest import read_release
from pipeline.export.query import QueryError, parse_query
from pipeline.export.release import release
from pipeline.export.split import assign_splits, shuffled
from pipeline.export.takedown import Request, take_down
from pipeline.parts import build_part, write_part
from pipeline.record import Reason, Record, SourceItem
from pipeline.shards import ShardError, iter_samples
from pipeline.storage import Folder
from tests.pipeline.toy_stages import toy_sample

CONFIG = ExportConfig(shard_samples=4, splits={"train": 0.6, "test": 0.4})
HASHES = np.random.default_rng(0).integers(1, 2**63, 100, dtype=np.uint64)  # far apart


def record(number: int, host: str, phash: int | None = None, **columns: str) -> Record:
    known = {"licence": "CC0-1.0", "original_sha256": f"{1000 + number:064x}", **columns}
    item = SourceItem(f"https://{host}/{number}.jpg", columns=tuple(known.items()))
    made = Record(item, sha256=f"{number:064x}", phash=f"{int(HASHES[number] if phash is None else phash):016x}")
    made.original_size = (640, 480)
    made.sample = toy_sample(number, item.uri)
    made.scores = dataclasses.replace(made.sample.meta.scores, contact=number / 100)
    return made


def write_parts(folder: Path, *units: list[Record]) -> str:
    for index, records in enumerate(units):
        write_part(Folder(str(folder)), build_part(f"{index:016x}", records, ("read",), "fingerprint"))
    return str(folder)


@pytest.fixture
def parts(tmp_path: Path) -> str:
    """20 samples of 5 hosts in 2 units, and one input turned away."""
    away = Record(SourceItem("https://a.org/none.jpg"))
    away.reject(Reason.NO_FACE)
    away.stage = "detect"
    records = [record(n, f"host{n % 5}.org") for n in range(20)]
    return write_parts(tmp_path / "parts", [*records[:9], away], records[9:])


def files(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def index(folder: Path) -> list[dict]:
    return pq.read_table(folder / "index.parquet").to_pylist()


def test_a_release_holds_every_sample_once_and_splits_share_no_host(parts: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = release([parts], str(out), CONFIG)
    expected = {record(n, "x").sample.key for n in range(20)}
    rows = index(out)
    found = {}
    for name, info in made.files.items():
        if info.samples:
            samples = list(iter_samples(str(out / name)))
            assert len(samples) == info.samples <= 4
            found |= {sample.key: name for sample in samples}
    assert set(found) == expected and sum(made.samples.values()) == 20
    assert {row["key"]: row["shard"] for row in rows} == found
    hosts = {split: {row["host"] for row in rows if row["split"] == split} for split in CONFIG.splits}
    assert hosts["train"] and hosts["test"] and not hosts["train"] & hosts["test"]
    assert made.funnel == {"detect": {"no_face": 1}} and made.inputs == 21
    for row in rows:  # the index finds a sample without reading the tar
        data = (out / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
        assert data[:16].decode() == row["key"]


def test_equal_parts_give_equal_bytes_in_whatever_folders_they_lie(parts: str, tmp_path: Path) -> None:
    release([parts], str(tmp_path / "a"), CONFIG)
    release([parts], str(tmp_path / "b"), CONFIG)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, unit in ((one, "0"), (two, "1")):
        folder.mkdir()
        for path in Path(parts).glob(f"part-*{unit}.*"):
            shutil.copy(path, folder)
    release([str(two), str(one)], str(tmp_path / "c"), CONFIG)
    assert files(tmp_path / "c") == files(tmp_path / "a")


def test_checksums_and_manifest_describe_the_files(parts: str, tmp_path: Path) -> None:
    made = release([parts], str(tmp_path / "out"), CONFIG)
    actual = files(tmp_path / "out")
    assert {name: info.sha256 for name, info in made.files.items()}.items() <= actual.items()
    assert set(actual) - set(made.files) == {"manifest.json", "SHA256SUMS"}
    lines = dict(reversed(line.split("  ")) for line in (tmp_path / "out/SHA256SUMS").read_text().splitlines())
    assert lines == {name: actual[name] for name in made.files}


def test_a_killed_export_is_finished_by_the_same_command(parts: str, tmp_path: Path) -> None:
    """SIGKILL after the first shard: no manifest, so it does not count; the rerun gives the undisturbed bytes."""
    script = (
        "import os, sys\n"
        "from pipeline.export.config import ExportConfig\n"
        "from pipeline.export.release import release\n"
        "from pipeline.export.write import Copier\n"
        "write = Copier.write\n"
        "def dies(*args):\n"
        "    write(*args)\n"
        "    os.kill(os.getpid(), 9)\n"
        "Copier.write = dies\n"
        "release([sys.argv[1]], sys.argv[2], ExportConfig(shard_samples=4, splits={'train': 0.6, 'test': 0.4}))\n"
    )
    out = tmp_path / "out"
    root = str(Path(__file__).parents[3])
    died = subprocess.run([sys.executable, "-c", script, parts, str(out)], cwd=root, env={**os.environ}, timeout=60)
    assert died.returncode == -9 and read_release(Folder(str(out))) is None and list(out.glob("*.tar"))
    release([parts], str(out), CONFIG)
    release([parts], str(tmp_path / "whole"), CONFIG)
    assert files(out) == files(tmp_path / "whole")


def test_another_release_is_not_overwritten(parts: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    release([parts], out, CONFIG)
    assert release([parts], out, CONFIG).revision == 1
    with pytest.raises(ExportError, match="holds another release"):
        release([parts], out, dataclasses.replace(CONFIG, seed=1))


def test_copies_are_dropped_or_stay_together(tmp_path: Path) -> None:
    near = int(HASHES[0]) ^ 0b101
    units = [record(n, f"h{n}.org") for n in range(12)] + [record(50, "copy.org", near)]
    parts = write_parts(tmp_path / "parts", units)
    made = release([parts], str(tmp_path / "dropped"), CONFIG)
    assert made.dropped == {"copy": 1} and sum(made.samples.values()) == 12
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
        ("host in 'abc'", "wants a list"),
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


def table(rows: list[tuple[str, str | None, str | None, str, str | None]]) -> pa.Table:
    names = ("key", "host", "member", "family", "identity")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    identities = [[("identity", value)] if value else None for value in columns.pop("identity")]
    return pa.table(
        {name: pa.array(values, pa.string()) for name, values in columns.items()}
        | {
            "uri": pa.array(["video.mp4"] * len(rows)),
            "columns": pa.array(identities, pa.map_(pa.string(), pa.string())),
        }
    )


GROUPS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from(["p", "q", None]), st.integers(0, 3)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(GROUPS, st.integers(0, 5))
def test_what_belongs_together_stays_together(groups: list, seed: int) -> None:
    rows = [(f"{k:04x}", host, None, f"f{family}", person) for k, (host, person, family) in enumerate(groups)]
    splits = assign_splits(table(rows), {"train": 0.5, "test": 0.5}, seed, "identity")
    for column in (1, 3, 4):
        seen: dict[str, str] = {}
        for row, split in zip(rows, splits, strict=True):
            if row[column]:
                assert seen.setdefault(row[column], split) == split


def test_frames_of_a_video_stay_together_and_members_of_a_tar_need_not() -> None:
    frames = [(f"{k:04x}", None, f"t={k}.000", f"f{k}", None) for k in range(40)]
    assert len(set(assign_splits(table(frames), {"train": 0.5, "test": 0.5}, 0, "identity"))) == 1
    members = [(key, host, f"{key}.jpg", family, None) for key, host, _, family, _ in frames]
    assert len(set(assign_splits(table(members), {"train": 0.5, "test": 0.5}, 0, "identity"))) == 2


@settings(max_examples=30, deadline=None)
@given(st.sets(st.text("0123456789abcdef", min_size=4, max_size=4), min_size=1, max_size=40), st.integers(0, 9))
def test_the_order_depends_on_seed_and_keys_alone(keys: set[str], seed: int) -> None:
    one, two = sorted(keys), sorted(keys, reverse=True)
    assert [one[k] for k in shuffled(one, seed)] == [two[k] for k in shuffled(two, seed)]


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


@pytest.mark.parametrize("at", ["takedown.publish", "release.licence_ledger", "release.croissant"])
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

        patch.setattr(f"pipeline.export.{at}", dies)
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


def test_others_read_it(parts: str, tmp_path: Path) -> None:
    """mlcroissant validates the description, webdataset and datasets read the shards."""
    import datasets
    import mlcroissant
    import webdataset

    out = tmp_path / "out"
    made = release([parts], str(out), CONFIG)
    described = mlcroissant.Dataset(str(out / "croissant.json"))
    assert not described.metadata.ctx.issues.errors
    assert sum(1 for _ in described.records("samples")) == 20
    shards = sorted(str(out / name) for name, info in made.files.items() if info.split == "train")
    stock = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert len(stock) == made.samples["train"] and {"jpg", "json", "safetensors"} <= set(stock[0])
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "c"))  # by the types that the card declares
    assert loaded.num_rows == {split: count for split, count in made.samples.items() if count}
    row = loaded["train"].select_columns(["json", "__key__"])[0]  # the toy pictures are none
    assert row["json"]["key"] == row["__key__"]


def test_the_card_counts_and_the_ledger_attributes(parts: str, tmp_path: Path) -> None:
    made = release(
        [parts], str(tmp_path / "out"), dataclasses.replace(CONFIG, name="my-set", description="What it is.")
    )
    card = (tmp_path / "out/README.md").read_text()
    assert "# my-set, revision 1" in card and "What it is." in card and "license: cc0-1.0" in card
    assert f"| train | {made.samples['train']} |" in card and "| detect | no_face | 1 |" in card
    ledger = (tmp_path / "out/licences.csv").read_text().splitlines()
    assert len(ledger) == 21 and ledger[0].startswith("key,licence,author")


def test_coco_annotations_are_in_pixel_corners_and_point_at_pictures(parts: str, tmp_path: Path) -> None:
    out, coco = tmp_path / "out", tmp_path / "coco"
    made = release([parts], str(out), CONFIG)
    write_coco(str(out), str(coco))
    for split, count in made.samples.items():
        document = json.loads((coco / split / "labels.json").read_text())
        samples = {
            s.key: s for name, f in made.files.items() if f.split == split for s in iter_samples(str(out / name))
        }
        assert len(document["images"]) == count == len(list((coco / split / "data").iterdir()))
        ids = {image["id"]: samples[image["file_name"].removesuffix(".jpg")] for image in document["images"]}
        assert len(ids) == count and len({a["id"] for a in document["annotations"]}) == len(document["annotations"])
        names = {c["id"]: c for c in document["categories"]}
        for annotation in document["annotations"]:
            sample, points = ids[annotation["image_id"]], np.reshape(annotation["keypoints"], (-1, 3))
            assert len(points) == len(names[annotation["category_id"]]["keypoints"])
            assert annotation["num_keypoints"] == (points[:, 2] > 0).sum() == (np.any(points, axis=1)).sum()
            if annotation["category_id"] == 1:
                face = sample.labels.face_keypoints_2d
                known = face[:, 2] > 0
                if not known.any():  # sample 0: nothing of it is known
                    assert annotation["bbox"] == [0, 0, 0, 0]
                    continue
                np.testing.assert_allclose(points[known, :2], face[known, :2] + 0.5, atol=0.006)
                x, y, width, height = annotation["bbox"]
                np.testing.assert_allclose([x, y], (face[known, :2] + 0.5).min(0), atol=0.01)
                np.testing.assert_allclose([x + width, y + height], (face[known, :2] + 0.5).max(0), atol=0.01)


def test_s3(parts: str, tmp_path: Path, s3: str) -> None:
    local = release([parts], str(tmp_path / "local"), CONFIG)
    Folder(f"{s3}/parts").filesystem.put(f"{parts}/*", f"{s3}/parts/")
    remote = release([f"{s3}/parts"], f"{s3}/out", CONFIG)
    assert remote == local
    assert take_down(f"{s3}/out", Request(keys=(record(3, "x").sample.key,)), "2026-01-02").revision == 2


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch):
    """A bucket on a server of our own, on loopback."""
    import fsspec
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir("bucket")
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield "s3://bucket"
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


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
        with pytest.raises(ShardError, match="cut off inside sample"):
            short = len(data) - 12_000
            list(sample_extents("x.tar", short, lambda o, n, data=data, short=short: data[:short][o : o + n]))
    linked = tmp_path / "linked.tar"
    with tarfile.open(linked, "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    data = linked.read_bytes()
    with pytest.raises(ShardError, match="not a plain file"):
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
        read_catalogue([parts])


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
    monkeypatch.setattr("pipeline.export.write._CHUNK", chunk)
    out = tmp_path / "out"
    release([parts], str(out), CONFIG)
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
            assert (out / f"{name}-{number:06d}.tar").read_bytes() == expected
        assert len(shards) == len(list(out.glob(f"{name}-*.tar")))


@pytest.mark.parametrize(
    ("uri", "host"),
    [("https://WWW.Example.org:8080/a", "example.org"), ("http://user@b.net/x", "b.net"), ("/data/a.jpg", None)],
)
def test_hosts(uri: str, host: str | None) -> None:
    assert host_of(uri) == host


@pytest.mark.parametrize(
    "wrong", [{"splits": {"train": 0.5}}, {"splits": {"a b": 1.0}}, {"shard_samples": 0}, {"dedupe_distance": 12}]
)
def test_bad_configs_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        ExportConfig(**wrong)
