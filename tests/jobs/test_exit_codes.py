"""A wrong path ends every verb with code 2, one sentence that names it, and nothing planned or written."""

from __future__ import annotations

from pathlib import Path

import pytest

from handface.jobs.cli import BY_NAME, main

CONTACT = ("--contact", "me@example.org")
TRANSFORMS = ("--hand-transforms", "urls.txt", "--head-transforms", "urls.txt")
# What was given: nothing of that name, a folder without anything in it, and a pattern that nothing matches.
WRONG = {"missing": "nowhere", "missing tar": "nowhere/a.tar", "empty": "empty", "pattern": "empty/*.tar"}

# WRONG is the path; OUT what the verb would write.
FOLDERS = [
    ["annotate", "--local", "--input", "WRONG", "--output", "OUT"],
    ["annotate", "--local", "--check", "--input", "WRONG", "--output", "OUT"],
    ["annotate", "--local", "--input", "good.jpg", "WRONG", "--output", "OUT"],
    ["crawl", "--local", *CONTACT, "--input", "WRONG", "--output", "OUT"],
    ["recheck", *CONTACT, "WRONG", "--output", "OUT"],
    ["predict", "WRONG", "--output", "OUT"],
    ["validate", "WRONG"],
    ["stats", "WRONG"],
    ["report", "WRONG", "--output", "OUT"],
    ["dedupe", "WRONG", "--output", "OUT"],
    ["export", "WRONG", "--output", "OUT"],
    ["takedown", "WRONG", "--key", "0123456789abcdef"],
    ["takedown", "WRONG", "--verify"],
    ["evaluate", "WRONG", "--output", "OUT"],
    ["train", "--train", "WRONG", "--output", "OUT"],
    ["inspect-data", "WRONG", "--output", "OUT"],
    ["decaf-to-shards", "--decaf", "WRONG", "--output", "OUT"],
    ["priors", "WRONG", "--output", "OUT.safetensors"],
    ["bodies", "info", "WRONG"],
    ["bodies", "import", "WRONG", "--output", "OUT.npz"],
    ["weights", "info", "WRONG"],
    [
        "weights",
        "import",
        "WRONG",
        "--hand-model",
        "free-hand",
        "--head-model",
        "free-head",
        *TRANSFORMS,
        "--output",
        "OUT",
    ],
    ["weights", "export", "WRONG", "--output", "OUT"],
]

# Files that a flag names beside the input.
FLAGS = [
    ["annotate", "--local", "--input", "good.jpg", "--dedupe.exclude", "WRONG", "--output", "OUT"],
    ["annotate", "--local", "--input", "good.jpg", "--depth.depth-anything", "./WRONG.pth", "--output", "OUT"],
    ["crawl", "--local", *CONTACT, "--input", "urls.txt", "--exclude", "WRONG", "--output", "OUT"],
    ["predict", "good.jpg", "--model", "./WRONG", "--output", "OUT"],
    ["demo-page", "--model", "./WRONG"],
    ["takedown", "empty", "--image", "WRONG"],
    ["bodies", "build", "--wheel", "WRONG", "--output", "OUT"],
    ["annotate", "--local", "--input", "good.jpg", "--keypoints.checkpoint", "WRONG.onnx", "--output", "OUT"],
    ["annotate", "--local", "--input", "good.jpg", "--fit.model", "./WRONG", "--output", "OUT"],
    ["train", "--config", "WRONG", "--output", "OUT"],
    ["synthesize", "--local", "--count", "1", "--pictures.backgrounds", "WRONG", "--output", "OUT"],
    ["evaluate", "good.jpg", "--model", "./WRONG", "--output", "OUT"],
    ["jobs", "submit", "--working-dir", "WRONG", "--address", "http://127.0.0.1:1", "--", "stats", "x"],
    ["models", "verify", "WRONG"],
    ["doctor", "--config", "WRONG"],
    ["demo", "--config", "WRONG", "--output", "OUT"],
    ["rehearse", "--config", "WRONG", "--output", "OUT"],
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from tests.pipeline.images import encode, photo

    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "good.jpg").write_bytes(encode(photo()))
    (tmp_path / "urls.txt").write_text("http://h.invalid/a.jpg\n")
    return tmp_path


def ends_with_2(command: list[str], wrong: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    words = [word.replace("WRONG", wrong).replace("OUT", "out") for word in command]
    try:
        code = main(words)
    except SystemExit as ended:
        code = ended.code  # type: ignore[assignment]
    said = capsys.readouterr()
    assert code == 2, said
    assert "Traceback" not in said.err
    assert wrong.rpartition("/")[2].lstrip("*") in said.err, said.err
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("command", FOLDERS, ids=lambda command: " ".join(command[:3]))
def test_wrong_inputs(command, kind, folder, capsys):
    ends_with_2(command, WRONG[kind], folder, capsys)


@pytest.mark.parametrize("command", FLAGS, ids=lambda command: " ".join(command[:5]))
def test_wrong_flags(command, folder, capsys):
    ends_with_2(command, "nowhere", folder, capsys)


def test_no_verb_is_left_out():
    assert {command[0] for command in (*FOLDERS, *FLAGS)} == set(BY_NAME)
