"""Releases: reproducible bytes, nothing twice, killed and begun again, in a bucket; metadata that others read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handface.pipeline.contract.checks.validate import validate
from handface.pipeline.contract.shards import iter_samples
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.record import Record
from handface.pipeline.export.catalogue import ExportError
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.manifest import read_release
from handface.pipeline.export.metadata.coco import write_coco
from handface.pipeline.export.release import release
from handface.pipeline.export.takedown import TakedownRequest, take_down
from tests.pipeline.export.releases import CONFIG, files, index, record, write_parts


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
        "from handface.pipeline.export.config import ExportConfig\n"
        "from handface.pipeline.export.release import release\n"
        "from handface.pipeline.export.write import Copier\n"
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


def test_s3(parts: str, tmp_path: Path, s3: str) -> None:
    local = release([parts], str(tmp_path / "local"), CONFIG)
    Folder(f"{s3}/parts").filesystem.put(f"{parts}/*", f"{s3}/parts/")
    remote = release([f"{s3}/parts"], f"{s3}/out", CONFIG)
    assert remote == local
    assert take_down(f"{s3}/out", TakedownRequest(keys=(record(3, "x").sample.key,)), "2026-01-02").revision == 2


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


@pytest.mark.parametrize(
    "wrong", [{"splits": {"train": 0.5}}, {"splits": {"a b": 1.0}}, {"shard_samples": 0}, {"dedupe_distance": 12}]
)
def test_bad_configs_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError):
        ExportConfig(**wrong)


def test_parts_with_other_labels_are_another_release(parts: str, tmp_path: Path) -> None:
    """The same pictures, hence keys, annotated anew."""
    out = tmp_path / "out"
    release([parts], str(out), CONFIG)
    again = [record(n, f"host{n % 5}.org") for n in range(20)]
    for one in again:
        labels = dataclasses.replace(one.sample.labels, face_keypoints_2d=np.full((68, 3), 0.5, np.float32))
        one.sample = dataclasses.replace(one.sample, labels=labels)
    other = write_parts(tmp_path / "again", again)
    with pytest.raises(ExportError, match="holds another release"):
        release([other], str(out), CONFIG)


def test_shards_of_two_releases_never_share_a_name(parts: str, tmp_path: Path) -> None:
    one = release([parts], str(tmp_path / "one"), CONFIG)
    two = release([parts], str(tmp_path / "two"), dataclasses.replace(CONFIG, seed=3))
    down = take_down(str(tmp_path / "two"), TakedownRequest(keys=(record(3, "x").sample.key,)), "2026-01-02")
    three = read_release(Folder(str(tmp_path / "two")))
    names = [{name for name, info in made.files.items() if info.samples} for made in (one, two, three)]
    assert not names[0] & names[1] and names[1] - names[2] == set(down.shards)
    assert len(names[2] - names[1]) == 1


HOME = "/home/anna-smith/private photos"


def local_records() -> list[Record]:
    uris = [
        f"{HOME}/1.jpg",
        f"file://{HOME}/sub/2.jpg",
        f'{HOME}/clip é".mp4',
        "s3://bucket/4.jpg",
        "https://a.org/5.jpg",
    ]
    records = []
    for number, uri in enumerate(uris):
        one = record(number, "x", author="/u/anna-s on a site", copied_from=f"{HOME}/x/{number}.tif")
        one.item = dataclasses.replace(one.item, uri=uri, member="t=1.500" if "clip" in uri else None)
        source = dataclasses.replace(one.sample.meta.source, uri=uri, columns=dict(one.item.columns))
        one.sample = dataclasses.replace(one.sample, meta=dataclasses.replace(one.sample.meta, source=source))
        records.append(one)
    return records


def test_no_path_of_this_machine_is_published(tmp_path: Path) -> None:
    parts, out = write_parts(tmp_path / "parts", local_records()), tmp_path / "out"
    listed = tmp_path / "list.parquet"
    pq.write_table(pa.table({"key": ["0" * 16]}), listed)
    made = release([parts], str(out), dataclasses.replace(CONFIG, exclude=(str(listed),)))
    write_coco(str(out), str(tmp_path / "coco"))
    published = [*out.rglob("*"), *(tmp_path / "coco").rglob("*.json")]
    for path in published:
        if path.suffix == ".parquet":
            text = repr(pq.read_table(path).to_pylist()).encode()
        else:
            text = path.read_bytes() if path.is_file() else b""
        assert b"anna-smith" not in text and str(tmp_path).encode() not in text, path
    names = {row["key"]: row["uri"] for row in index(out)}
    assert sorted(names.values()) == ["1.jpg", "2.jpg", 'clip é".mp4', "https://a.org/5.jpg", "s3://bucket/4.jpg"]
    results = list(validate([str(path) for path in out.glob("*.tar")]))
    assert sum(result.samples for result in results) == 5
    before = sum((result.counts for result in validate([str(path) for path in Path(parts).glob("*.tar")])), Counter())
    assert sum((result.counts for result in results), Counter()) == before
    for name, info in made.files.items():
        for sample in iter_samples(str(out / name)) if info.samples else ():
            assert sample.meta.source.uri == names[sample.key]
            assert sample.meta.source.columns["copied_from"].endswith(".tif")
    for row in index(out):
        assert (out / row["shard"]).read_bytes()[row["offset"] : row["offset"] + 16].decode() == row["key"]


@pytest.mark.parametrize(
    "name",
    [
        "Hands: wild #1",
        "'quoted' \"twice\"",
        "- [a, b]",
        "yes",
        "1e3",
        "two\nlines: x\n---",
        "手と顔 🖐",
        "{a: b}",
        "@x %y",
        "",
    ],
)
def test_the_card_of_any_name_is_read_by_a_yaml_reader(parts: str, tmp_path: Path, name: str) -> None:
    import yaml

    release([parts], str(tmp_path / "out"), dataclasses.replace(CONFIG, name=name))
    text = (tmp_path / "out/README.md").read_text()
    _, metadata, body = text.split("---\n", 2)
    read = yaml.safe_load(metadata)
    assert read["pretty_name"] == " ".join(name.split())
    assert read["license"] == "cc0-1.0" and read["task_categories"] == ["keypoint-detection", "image-to-3d"]
    assert read["configs"][0]["data_files"][0] == {"split": "train", "path": "train-*.tar"}
    assert {"name": "depth.png", "dtype": "image"} in read["dataset_info"]["features"]
    assert f"# {' '.join(name.split())}, revision 1" in body


def test_a_table_in_the_card_survives_bars_and_line_breaks(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts", [record(0, "a.org", licence="CC | BY\n4.0")])
    release([parts], str(tmp_path / "out"), CONFIG)
    assert "| CC \\| BY 4.0 | 1 |" in (tmp_path / "out/README.md").read_text()


def test_many_parts_and_batches_give_the_same_index(
    parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release([parts], str(tmp_path / "whole"), CONFIG)
    monkeypatch.setattr("handface.pipeline.export.metadata.index._BATCH", 3)
    made = release([parts], str(tmp_path / "pieces"), CONFIG)
    assert index(tmp_path / "pieces") == index(tmp_path / "whole")
    assert (tmp_path / "pieces/licences.csv").read_bytes() == (tmp_path / "whole/licences.csv").read_bytes()
    assert not list((tmp_path / "pieces").glob(".tmp*"))
    take_down(str(tmp_path / "pieces"), TakedownRequest(keys=(record(3, "x").sample.key,)), "2026-01-02")
    assert sum(made.samples.values()) - 1 == len(index(tmp_path / "pieces"))


GOLDEN = {
    "README.md": "52eee32f651a8620",
    "licences.csv": "a463a15847dc4c9c",
    "test-TAG-000000.tar": "22c76b90ddf04935",
    "test-TAG-000001.tar": "6dfc735ceb717fe4",
    "test-TAG-000002.tar": "7a0eabac6a02f501",
    "train-TAG-000000.tar": "48d7713df580c357",
    "train-TAG-000001.tar": "c2b996890a964273",
}


def test_a_release_has_the_bytes_it_always_had(parts: str, tmp_path: Path) -> None:
    """If this fails on purpose, raise RELEASE_VERSION (pipeline/export/manifest.py) and write the new checksums here."""
    tag = release([parts], str(tmp_path / "out"), CONFIG).fingerprint[:8]
    card = (tmp_path / "out/README.md").read_text().replace(tag, "TAG")
    found = {name.replace(tag, "TAG"): digest for name, digest in files(tmp_path / "out").items()}
    # tables differ with pyarrow's version, and with them the tag
    steady = {name: digest[:16] for name, digest in found.items() if name.endswith((".tar", ".csv"))}
    assert steady | {"README.md": hashlib.sha256(card.encode()).hexdigest()[:16]} == GOLDEN
