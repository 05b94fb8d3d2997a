"""`handface annotate`: files in, parts out, exit codes, resume, dry run; Ray and --local agree byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from handface.jobs.cli import main
from handface.pipeline.contract.parts import read_parts
from tests.pipeline.images import encode, photo
from tests.pipeline.toy_stages import Once, items, parts_of, toy_stages


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait without a hand, its copy, a drawing, and files that are no pictures."""
    from skimage import data

    folder = tmp_path_factory.mktemp("photos")
    portrait = data.astronaut()
    Image.fromarray(portrait).save(folder / "a_portrait.jpg", quality=92)
    Image.fromarray(portrait).save(folder / "b_copy.png")
    Image.fromarray(np.full((200, 300, 3), 255, np.uint8)).save(folder / "c_blank.png")
    (folder / "d_cut.jpg").write_bytes((folder / "a_portrait.jpg").read_bytes()[:5000])
    (folder / "e_empty.jpg").touch()
    (folder / "f_page.jpg").write_text("<html>not here</html>")
    return folder


ANNOTATE = ["annotate", "--unit-size", "4", "--detect.segmenter", "off"]


@pytest.fixture(scope="module")
def local(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("local")
    assert main([*ANNOTATE, "--input", str(photos), "--output", str(output), "--local"]) == 0
    return output


def test_every_file_is_accounted_for(photos: Path, local: Path) -> None:
    rows = [row for part in read_parts(str(local)) for row in part.rows().to_pylist()]
    reasons = {Path(row["uri"]).name: row["reason"] for row in rows}
    assert len(rows) == len(reasons) == 6
    assert reasons == {
        "a_portrait.jpg": "no_hand",
        "b_copy.png": "duplicate",
        "c_blank.png": "not_a_photo",
        "d_cut.jpg": "corrupt",
        "e_empty.jpg": "empty",
        "f_page.jpg": "not_image",
    }


def test_ray_gives_the_same_bytes(photos: Path, local: Path, tmp_path: Path, ray_cluster: None) -> None:
    assert main([*ANNOTATE, "--input", str(photos), "--output", str(tmp_path), "--workers", "2"]) == 0
    assert parts_of(tmp_path) == parts_of(local)


def test_second_start_has_nothing_to_do(
    photos: Path, local: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in local.glob("part-*")}
    with caplog.at_level("INFO"):
        assert main([*ANNOTATE, "--input", str(photos), "--output", str(local), "--local"]) == 0
    assert {path: path.stat().st_mtime_ns for path in local.glob("part-*")} == before
    assert "2 parts are finished" in caplog.text
    printed = capsys.readouterr().out
    assert "0 of 6 inputs kept" in printed
    assert "duplicate 1" in printed


def test_resolved_config_lies_beside_the_parts(photos: Path, local: Path) -> None:
    record = json.loads((local / "run.json").read_text())
    assert record["inputs"] == [str(photos)]
    assert record["config"]["unit_size"] == 4
    assert record["config"]["detect"]["segmenter"] == "off"


def test_another_config_is_bad_usage(photos: Path, local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["annotate", "--input", str(photos), "--output", str(local), "--local", "--detect.segmenter", "off"])
    assert code == 2
    assert "unit_size was 4, is 128" in capsys.readouterr().err


def test_going_on_with_another_runtime_is_refused(
    photos: Path, local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = parts_of(local)
    other = ["--detect.detector.runtime.name", "onnxruntime"]
    assert main([*ANNOTATE, "--input", str(photos), "--output", str(local), "--local", *other]) == 2
    assert "detect.detector.runtime.name was 'openvino', is 'onnxruntime'" in " ".join(capsys.readouterr().err.split())
    assert parts_of(local) == before


def test_missing_input_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ANNOTATE, "--input", str(tmp_path / "nothing"), "--output", str(tmp_path / "out")]) == 2
    assert "nothing: no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_dry_run_counts_and_writes_nothing(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ANNOTATE, "--input", str(photos), "--output", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "6 inputs in 2 units of up to 4" in printed
    assert "read > decode > dedupe" in printed
    assert not (tmp_path / "out").exists()


def test_dry_run_says_the_units_that_the_run_makes(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = sorted(photos.iterdir())
    (tmp_path / "list.csv").write_text("file\n" + "".join(f"{photos}/{rows[k % len(rows)].name}\n" for k in range(12)))
    command = ["annotate", "--detect.segmenter", "off", "--local", "--any-file", "--input", str(tmp_path / "list.csv")]
    assert main([*command, "--output", str(tmp_path / "out"), "--check"]) == 0
    assert "12 inputs in 2 units of up to 8" in capsys.readouterr().out
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    assert len(list(read_parts(str(tmp_path / "out")))) == 2


def test_a_check_of_what_cannot_be_planned_shows_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.tar").write_bytes(b"no tar" * 200)
    command = [*ANNOTATE, "--input", str(tmp_path / "cut.tar"), "--output", str(tmp_path / "out"), "--check"]
    assert main(command) == 2
    printed = capsys.readouterr()
    assert "cut.tar" in printed.err and "Nothing was planned" in printed.err
    assert "units" not in printed.out and "would" not in printed.out


@pytest.mark.parametrize(
    ("verb", "other"),
    [
        ("annotate", ["--pack.jpeg-quality", "80"]),
        ("annotate", ["--input", "elsewhere"]),
        ("crawl", ["--keep.max-side", "300"]),
        ("crawl", ["--input", "elsewhere/list.csv"]),
    ],
)
def test_a_check_refuses_an_output_of_another_run_as_the_run_does(
    verb: str, other: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("here", "elsewhere"):
        Path(folder).mkdir()
        Path(folder, "a.jpg").write_bytes(encode(photo()))
        # a port where nobody listens
        Path(folder, "list.csv").write_text("url\nhttp://127.0.0.1:9/a.jpg\n")
    own = {
        "annotate": ["--input", "here", "--detect.segmenter", "off"],
        "crawl": ["--input", "here/list.csv", "--contact", "a@b.org", "--http.attempts", "1"],
    }[verb]
    given, changed = [verb, *own, "--local", "--output", "out"], [*other, "--local", "--output", "out"]
    differs = [verb, *(own[2:] if "--input" in other else own), *changed]
    assert main([*given, "--check"]) == 0 and not Path("out").exists()
    assert main(given) == 0
    before = sorted(Path("out").rglob("*"))
    capsys.readouterr()
    refusals = []
    for command in (differs, [*differs, "--check"]):
        assert main(command) == 2
        refusals.append(capsys.readouterr().err)
    assert refusals[0] == refusals[1] and "holds a run with another configuration" in refusals[0]
    assert main([*given, "--check"]) == 0
    assert "finished parts: 1" in capsys.readouterr().out or verb == "crawl"
    assert sorted(Path("out").rglob("*")) == before


@pytest.mark.parametrize("check", [[], ["--check"]])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--fit.model", "dice-nanoo"], "no network of that name; did you mean dice-nano?"),
        (["--depth.depth-anything", "nofolder"], "no such file or folder, and hub ids are written OWNER/NAME"),
        (["--depth.depth-anything", "./owner/name"], "no such file or folder"),
    ],
)
def test_a_model_that_is_not_there_is_said_before_anything_is_planned(
    flags: list[str], said: str, check: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ANNOTATE, "--input", str(photos), "--output", str(tmp_path / "out"), *flags, *check]) == 2
    error = capsys.readouterr().err
    assert said in error and flags[0] in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("check", [[], ["--check"]])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("other.pth", "has no pretrained.patch_embed.proj.weight: expected the authors' layout of Depth Anything"),
        ("text.pth", "cannot be read as tensors"),
        ("folder", "holds no readable config.json"),
    ],
)
def test_a_depth_checkpoint_of_another_kind_is_said_before_anything_is_planned(
    name: str, said: str, check: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("transformers")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "text.pth").write_text("no tensors")
    (tmp_path / "folder").mkdir()
    flags = ["--depth.depth-anything", str(tmp_path / name)]
    assert main([*ANNOTATE, "--input", str(photos), "--output", str(tmp_path / "out"), *flags, *check]) == 2
    error = capsys.readouterr().err
    assert said in error and name in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("check", [[], ["--check"]])
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--keypoints.checkpoint", "text.onnx"], "text.onnx is no readable ONNX network"),
        (["--keypoints.checkpoint", "text.pth", "--keypoints.mmpose-config", "in/the/wheel.py"], "text.pth is no plain state dict"),
        (["--fit.model", "folder"], "folder/config.json"),
        (["--fit.model", "dice-s"], "fit.model dice-s is untrained"),
        (["--fit.model", "dice-m", "--fit.hand-model", "text.npz"], "text.npz: not a whole .npz"),
    ],
)  # fmt: skip
def test_a_network_of_another_kind_is_said_before_anything_is_planned(
    flags: list[str],
    said: str,
    check: list[str],
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for ending in ("onnx", "pth", "npz"):
        (tmp_path / f"text.{ending}").write_text("no tensors")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert main([*ANNOTATE, "--input", str(photos), "--output", "out", *flags, *check]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_failed_unit_makes_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trouble = Once(tmp_path, at=5, act="raise", times=99)
    trouble.guarded = False
    stages = toy_stages(trouble)
    monkeypatch.setattr("handface.pipeline.stages.recipe.build_stages", lambda config, day: stages)
    monkeypatch.setattr("handface.pipeline.sources.open_source", lambda inputs, config, notes, any_file: items(12))
    output = tmp_path / "out"
    assert main([*ANNOTATE, "--input", str(tmp_path), "--output", str(output), "--local"]) == 1
    assert "toy trouble at 5" in caplog.text
    assert "1 units failed, 0 were not tried" in caplog.text
    assert len(list(read_parts(str(output)))) == 2


def test_module_form_is_the_same_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "jobs.annotate",
        "--input",
        str(tmp_path / "no"),
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert "handface annotate: error: --input" in done.stderr


def test_two_at_once_on_one_folder(tmp_path, capsys):
    """The second says who is at work and writes nothing; looking with --check is free."""
    from handface.pipeline.contract.lock import lock_folder
    from handface.pipeline.contract.storage import Folder

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(encode(photo()))
    command = ["annotate", "--local", "--input", str(tmp_path / "photos"), "--output", str(tmp_path / "out")]
    with lock_folder(Folder(str(tmp_path / "out")), "annotate"):
        assert main(command) == 2
        assert "`annotate` (process" in capsys.readouterr().err
        assert main([*command, "--check"]) == 0
        assert [path.name for path in (tmp_path / "out").iterdir()] == [".handface.lock"]
