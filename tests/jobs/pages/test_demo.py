"""The demo's pictures, and `handface demo` from the first picture to the report with the real detectors."""

from __future__ import annotations

import json
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handface.jobs import demo
from handface.jobs.cli import main
from handface.jobs.demonstration import pictures as demo_input
from handface.jobs.demonstration.page import loss_curve
from handface.jobs.demonstration.pictures import (
    DemoInputError,
    Portrait,
    demo_files,
    png_header,
    with_hand,
    write_demo_input,
    write_scene_pictures,
)
from handface.model.weights.checkpoint import is_trained
from handface.pipeline.contract.sample import RIGHT, Sample
from handface.pipeline.contract.shards import iter_samples


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return dict(demo_files())


def test_pictures_are_the_same_every_time_and_their_names_differ(files: dict[str, bytes], tmp_path: Path) -> None:
    paths = write_demo_input(tmp_path / "a" / "b")
    assert {path.name: path.read_bytes() for path in paths} == files
    assert len(paths) == len(files)


def test_bad_files_are_bad_and_the_others_open(files: dict[str, bytes]) -> None:
    bad = {"cut_off.jpg", "really_html.jpg", "empty.jpg", "bomb_30000x30000.png"}
    for name, data in files.items():
        if name in bad:
            with pytest.raises((OSError, Image.DecompressionBombError)):
                Image.open(BytesIO(data)).load()
        else:
            Image.open(BytesIO(data)).load()


def test_the_bomb_is_only_a_header() -> None:
    data = png_header(30_000, 20_000)
    assert len(data) < 100
    with pytest.warns(Image.DecompressionBombWarning), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000_000)
        assert Image.open(BytesIO(data)).size == (30_000, 20_000)


def test_a_hand_is_drawn_where_it_should_be_and_nowhere_else() -> None:
    blank = Portrait(np.full((300, 300, 3), 128, np.uint8), cheek=(150.0, 100.0), scale=600.0)
    changed = (with_hand(blank) != blank.pixels).any(-1)
    y, x = np.nonzero(changed)
    assert abs(y.min() - 100) < 25 and y.max() > 150  # fingers up, about 0.19 m at 600 px/m long
    assert 60 < np.hypot(np.ptp(x), np.ptp(y)) < 180
    moved = (with_hand(blank, shift=(0.05, 0.0)) != blank.pixels).any(-1)
    assert abs(np.nonzero(moved)[1].mean() - x.mean() - 30) < 1  # 0.05 m at 600 px/m
    larger = (with_hand(blank, size=1.5) != blank.pixels).any(-1)
    assert 1.9 < larger.sum() / changed.sum() < 2.6


def test_without_the_packages_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(DemoInputError, match=r"handface\[demo\]"):
        demo_input._photos()


def test_scenes_become_pictures_named_by_what_they_show(tmp_path: Path) -> None:
    config = demo.Config(output=tmp_path, scenes=3, local=True)
    assert demo.render_scenes(config) == 0
    (tmp_path / "input").mkdir()
    paths = write_scene_pictures(tmp_path / "scenes", tmp_path / "input")
    assert len(paths) == 3
    truth = scenes_of(tmp_path / "scenes")
    for path in paths:
        sample = truth[path.stem]
        assert path.read_bytes() == sample.image
        assert ("touch" in path.stem) == bool(np.unpackbits(sample.labels.hand_contact).any())


def scenes_of(folder: Path) -> dict[str, Sample]:
    """Samples by the names of their pictures."""
    named = {}
    for tar in folder.glob("*.tar"):
        for sample in iter_samples(str(tar)):
            source = sample.meta.source
            named[f"scene_{int(source.member):03d}_{source.columns['kind']}_{source.columns['region']}"] = sample
    return named


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_demo_goes_from_pictures_to_predictions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", str(tmp_path), "--local", "--steps", "3"]) == 0
    assert f"Open {tmp_path / 'index.html'}" in capsys.readouterr().out
    check_report(tmp_path)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3] and is_trained(tmp_path / "run" / "last")
    systems = {row["system"] for row in json.loads((tmp_path / "evaluation" / "results.json").read_text())["rows"]}
    assert systems == {"network", "network, drawn", "mean pose", "oracle"}
    overlays = {path.stem for path in (tmp_path / "predictions").glob("*.json")} - {"summary"}
    assert {f"touch_{who}_{side}" for who in ("astronaut", "hopper") for side in ("left", "right")} <= overlays
    page = (tmp_path / "index.html").read_text()
    assert page.count("<iframe") == 2 and page.count("<figure>") == len(overlays) and "step 3:" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page  # needs no network


def test_the_loss_curve_spans_its_picture(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(
        '{"step": 10, "loss": 8.0}\n{"step": 15, "validation/pve": 3}\n{"step": 20, "loss": 4.0}\n{"step": 30, "loss": 6.0}\n'
    )
    assert 'points="0.00,4.00 50.00,96.00 100.00,50.00"' in loss_curve(log)
    assert "step 10: 8; step 30: 6" in loss_curve(log)


def check_report(folder: Path) -> None:
    """report.html counts every picture as what it is."""
    page = (folder / "report.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert data["totals"]["inputs"] == 29 and data["totals"]["parts"] == 4
    kept = {
        Path(sample["source"]["uri"]).stem: [hand["side"] for hand in sample["hands"]] for sample in data["samples"]
    }
    photos = {name: sides for name, sides in kept.items() if not name.startswith("scene")}
    assert photos == {f"touch_{who}_{side}": [side] for who in ("astronaut", "hopper") for side in ("left", "right")}
    why = {Path(e["name"]).stem: row["reason"] for row in data["reasons"] for e in row["examples"]}
    assert {name: reason for name, reason in why.items() if not name.startswith("scene")} == {
        "plain_astronaut": "no_hand",
        "plain_hopper": "no_hand",
        "plain_coffee": "no_face",
        "plain_cat": "no_face",
        "touch_astronaut_right_again": "duplicate",
        "far_astronaut": "hand_far",
        "in_front_astronaut": "hand_occludes",
        "drawing": "not_a_photo",
        "cut_off": "corrupt",
        "really_html": "not_image",
        "empty": "empty",
        "bomb_30000x30000": "too_many_pixels",
        "tiny": "too_small",
    }
    scenes = scenes_of(folder / "scenes")
    found = {name: sides for name, sides in kept.items() if name in scenes}
    assert len(scenes) == 12 and sum("touch" in name for name in found) >= 5
    true = {n: sorted("right" if side == RIGHT else "left" for side in scenes[n].labels.hand_side) for n in found}
    assert {name: sorted(sides) for name, sides in found.items()} == true
    assert any(len(sides) == 2 for sides in true.values())  # with both hands at the face, both are found
