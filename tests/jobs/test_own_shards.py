"""What one verb writes, `annotate` reads by the contract: inputs are samples, and their provenance travels along."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from handface.jobs.cli import main
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.sample import Sample
from handface.pipeline.contract.shards import find_shards, iter_samples
from handface.pipeline.sources import open_source

SCENES = 4
FREE = ["--hand-model", "free-hand", "--head-model", "free-head"]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders written by synthesize, export, decaf-to-shards and annotate."""
    base = tmp_path_factory.mktemp("own")
    folders = {name: base / name for name in ("synthetic", "release", "film", "decaf", "annotated")}
    made = folders["synthetic"]
    assert main(["synthesize", "--count", str(SCENES), "--size", "256", "--output", str(made), "--local"]) == 0
    assert main(["export", str(made), "--output", str(folders["release"]), "--name", "own"]) == 0
    film = ["--layout", "decaf", "--capture.subjects", "1", "--capture.cameras", "1"]
    assert main(["synthesize", "--count", "2", *film, "--output", str(folders["film"]), "--local"]) == 0
    decaf = ["--decaf", str(folders["film"]), "--licence", "CC0-1.0", "--author", "somebody"]
    assert main(["decaf-to-shards", *decaf, *FREE, "--output", str(folders["decaf"]), "--local"]) == 0
    annotate = ["--local", "--detect.segmenter", "off", "--contact.threshold", "0"]
    assert main(["annotate", "--input", str(made), "--output", str(folders["annotated"]), *annotate]) == 0
    return folders


def samples(folder: Path) -> dict[str, Sample]:
    return {sample.key: sample for uri in find_shards([str(folder)]) for sample in iter_samples(uri)}


def listed(folder: Path) -> list[SourceItem]:
    return list(open_source([str(folder)]))


@pytest.mark.parametrize("name", ["synthetic", "release", "decaf", "annotated"])
def test_inputs_are_the_samples_and_keep_their_terms(outputs: dict[str, Path], name: str) -> None:
    known = samples(outputs[name])
    items = listed(outputs[name])
    assert len(items) == len(known) > 0
    for item in items:
        assert item.problem is None and item.member is not None and item.member.endswith(".jpg")
        sample = known[item.member.removesuffix(".jpg")]
        raw = Path(item.uri).read_bytes()
        assert raw[item.offset : item.offset + item.size] == sample.image
        source = sample.meta.source
        assert (item.column("licence"), item.column("author")) == (source.licence, source.author)
        assert source.licence == "CC0-1.0"
        assert item.column("original_sha256") == source.columns.get("original_sha256", source.sha256)


def test_a_second_annotation_keeps_what_the_first_source_said(outputs: dict[str, Path]) -> None:
    first = {sample.meta.source.sha256: sample for sample in samples(outputs["synthetic"]).values()}
    for sample in samples(outputs["annotated"]).values():
        source = sample.meta.source
        before = first[source.columns["original_sha256"]]
        assert (source.licence, source.author) == ("CC0-1.0", before.meta.source.author)
        assert source.columns["source"] == before.meta.source.uri
        assert source.columns["region"] == before.meta.source.columns["region"]
    rows = [row for part in read_parts(str(outputs["annotated"])) for row in part.rows().to_pylist()]
    assert len(rows) == SCENES and {row["licence"] for row in rows} == {"CC0-1.0"}


def test_depth_and_masks_are_no_photos_and_evidence_travels(
    tmp_path: Path, make_sample: Callable[..., Sample], write_tar: Callable[..., Path]
) -> None:
    made = [
        make_sample(
            seed,
            uri=f"https://example.org/{seed}.jpg",
            page="https://example.org/page",
            licence="CC-BY-4.0",
            author="somebody",
            fetched_at="2026-11-28",
            evidence={"robots": "allowed"},
            columns={"caption": "a hand", "identity": "7"},
        )
        for seed in range(3)
    ]
    made = [dataclasses.replace(sample, mask_png=sample.depth_png) for sample in made]
    write_tar(tmp_path / "shard.tar", made)
    items = listed(tmp_path)
    assert [item.origin for item in items] == [f"https://example.org/{seed}.jpg" for seed in range(3)]
    assert dict(items[0].columns) == {
        "author": "somebody",
        "caption": "a hand",
        "evidence.robots": "allowed",
        "fetched_at": "2026-11-28",
        "identity": "7",
        "licence": "CC-BY-4.0",
        "original_sha256": f"{0:064x}",
        "page": "https://example.org/page",
        "url": "https://example.org/0.jpg",
    }


def test_paths_of_the_machine_that_made_a_sample_stay_behind(
    tmp_path: Path, make_sample: Callable[..., Sample], write_tar: Callable[..., Path]
) -> None:
    write_tar(tmp_path / "shard.tar", [make_sample(0, uri="/home/somebody/photos/a.jpg")])
    (item,) = listed(tmp_path)
    assert "somebody" not in json.dumps(item.columns)
