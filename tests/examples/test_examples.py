"""The scripts in examples/, the Python blocks of docs/api.md and the stage of CONTRIBUTING run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples import annotate_folder, own_stage, predict_photo, read_shards, train_mix
from handface.jobs.cli import main
from handface.jobs.demonstration.pictures import demo_files
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage, check_chain
from handface.pipeline.stages.recipe import AnnotateConfig, build_stages
from tests.pipeline.films import write_film

ROOT = Path(__file__).parents[2]
PHOTOS = ("touch_astronaut_right.jpg", "plain_astronaut.jpg")


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call yours: photo.jpg, photos/ and clip.mp4; out/parts is what the first example makes of photos/."""
    base = tmp_path_factory.mktemp("yours")
    (base / "photos").mkdir()
    for name, data in demo_files():
        if name in PHOTOS:
            (base / "photos" / name).write_bytes(data)
    Image.new("RGB", (256, 256), (120, 120, 120)).save(base / "photos" / "grey.png")
    (base / "photo.jpg").write_bytes((base / "photos" / PHOTOS[0]).read_bytes())
    write_film(base / "clip.mp4", [np.asarray(Image.open(base / "photo.jpg"))] * 2)
    # 133 points of COCO-WholeBody: body, feet, face, left and right hand
    points = np.concatenate([np.random.default_rng(0).uniform(100, 400, (133, 2)), np.ones((133, 1))], 1)
    np.save(base / "person.npy", points.astype(np.float32))
    assert annotate_folder.main(str(base / "photos"), str(base / "out" / "parts")) == 0
    return base


def test_read_shards_without_webdataset_is_one_sentence() -> None:
    code = "import runpy, sys; sys.modules['webdataset'] = None; runpy.run_path('examples/read_shards.py', run_name='__main__')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1
    assert "pip install webdataset" in ended.stderr


def test_annotate_folder_writes_parts_and_a_report_that_read_shards_reads(folder: Path) -> None:
    assert (folder / "out" / "parts" / "report.html").stat().st_size > 1000
    assert read_shards.main(str(folder / "out" / "parts")) == 1


def test_predict_photo_writes_a_mesh_for_each_person(folder: Path, tmp_path: Path) -> None:
    assert predict_photo.main(str(folder / "photo.jpg"), str(tmp_path)) == 1
    assert (tmp_path / "person_0.glb").read_bytes()[:4] == b"glTF"


def test_own_stage_turns_a_grey_picture_away_before_the_detector(folder: Path, tmp_path: Path) -> None:
    counts = own_stage.main(str(folder / "photos"), str(tmp_path / "parts"))
    assert counts["kept"] == 1
    assert counts["blurred"] == 1
    assert sum(counts.values()) == 3


def test_train_mix_trains_on_scenes_and_photos(folder: Path, tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    assert main(["synthesize", "--count", "2", "--size", "128", "--output", str(scenes), "--local"]) == 0
    assert train_mix.main(str(scenes), str(folder / "out" / "parts"), str(tmp_path / "run"), 1, 4) == 1


@pytest.mark.parametrize("number", range(len(python_blocks("docs/api.md"))))
def test_blocks_of_the_api_page_run(number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    exec(compile(python_blocks("docs/api.md")[number], f"docs/api.md block {number}", "exec"), {"__name__": "block"})


def test_the_api_page_shows_the_example_of_a_stage() -> None:
    code = (ROOT / "examples" / "own_stage.py").read_text().partition('"""\n\n')[2].partition("\n\nif __name__")[0]
    shown = python_blocks("docs/api.md")[-1]
    assert shown.startswith(code.replace("import sys\n", "", 1).rstrip())


def test_the_stage_of_contributing_fits_into_the_recipe() -> None:
    (code,) = python_blocks("CONTRIBUTING.md")
    names: dict[str, type[Stage]] = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    stage = names["SharpStage"]()
    stages = build_stages(AnnotateConfig(), "2026-01-01")
    check_chain([*stages[:2], stage, *stages[2:]])
    rng = np.random.default_rng(0)
    flat, varied = np.full((64, 64, 3), 120, np.uint8), rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    records = [Record(SourceItem(name), image=image) for name, image in (("flat", flat), ("varied", varied))]
    stage(records)
    assert [record.reason for record in records] == [Reason.BLURRED, None]
