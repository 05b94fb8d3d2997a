"""The commands of docs/train_on_decaf.md, as printed there, on small files in the exact formats of Decaf, MANO, FLAME and the release."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.jobs.cli import main
from handface.jobs.demonstration.pictures import demo_files
from handface.model.bodies import DECAF, ParametricBody
from handface.model.bodies.readers import read_flame, read_mano
from handface.model.weights.checkpoint import read_config
from handface.pipeline.decaf.writer import write_assets
from tests.model.reference_dice import NETWORK, randomise, save_released
from tests.model.weights.test_imported import select
from tests.model.weights.test_weights import NARROW
from tests.pipeline.decaf.test_decaf import NECK, cameras, write_subject
from tests.trainers.test_train_storage import bucket

__all__ = ["bucket"]
pytest_plugins = ["tests.model.bodies.gated_files"]
ROOT = Path(__file__).parents[2]
FRAMES = 4  # of each subject; one of them without a box of the head
PAGE = (ROOT / "docs" / "train_on_decaf.md").read_text()

# what makes a command small, beside what the page says
SMALL = {
    "decaf-to-shards": ["--local"],
    "synthesize": ["--count", "2", "--capture.subjects", "1", "--capture.cameras", "1", "--local"],
    "train": ["--steps", "2", "--batch-size", "2", "--set", "data.workers=0"],
    "predict": ["--fit", "off", "--no-pictures"],
    "evaluate": ["--limit", "2", "--workers", "0", "--no-speed", "--pictures", "1", "--replicates", "20"],
}


def commands(heading: str) -> list[list[str]]:
    """The commands of a section, its variables filled in."""
    (section,) = re.findall(rf"^## (?:\d\. )?{heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    (block,) = re.findall(r"^```\n(.*?)^```", section, re.M | re.S)
    bodies = re.findall(r'^BODIES="(.*)"', PAGE, re.M)[0]
    lines = block.replace("\\\n", " ").replace("$BODIES", bodies).splitlines()
    return [shlex.split(line) for line in lines if not line.startswith("BODIES=")]


def small(command: list[str]) -> list[str]:
    """A command with what makes it small."""
    verb = command[1] if command[0] == "handface" else "train"
    fresh = verb == "train" and "--init" not in command
    smaller = [*SMALL.get(verb, []), *(["--preset", "dice-nano"] if fresh else [])]
    # a flag is given once: the small value takes the place of the page's
    for flag in {word for word in smaller if word.startswith("--")} - {"--set"}:
        if flag in command:
            at = command.index(flag)
            value = at + 1 < len(command) and not command[at + 1].startswith("--")
            command = [*command[:at], *command[at + 1 + value :]]
    return [*command, *smaller]


def run_section(heading: str) -> None:
    for command in commands(heading):
        launcher, *arguments = small(command)
        # ranks and Ray's workers get the keys of the bucket from a process that starts them; `small` gives `evaluate` none of either
        if launcher == "handface" and "--workers" not in command:
            assert main(arguments) == 0, shlex.join(command)
            continue
        start = ["torch.distributed.run", "--standalone"] if launcher == "torchrun" else ["handface"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        whole = [sys.executable, "-m", *start, *arguments]
        done = subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout + done.stderr


def steps(folder: str) -> list[int]:
    """Steps of a run's log, once each."""
    lines = (json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines())
    return sorted({line["step"] for line in lines})


@pytest.fixture
def licensed(
    tmp_path: Path, mano_pkl: Path, flame_pkl: Path, landmark_npy: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of somebody who has every licence: all that the page's first section lists."""
    root, decaf = tmp_path, tmp_path / "DecafDataset"
    bodies = [
        ParametricBody(arrays, DECAF[arrays.kind], torch.float64)
        for arrays in (read_mano(mano_pkl), read_flame(flame_pkl, landmark_npy))
    ]
    for split, subject in (("train", "S2"), ("train", "S4"), ("train", "S8"), ("test", "S1")):
        write_subject(decaf, split, subject, bodies, frames=FRAMES)
    for copy in ("S5", "S7"):
        for folder in sorted((decaf / "train").glob("*/S4*")):
            target = folder.with_name(folder.name.replace("S4", copy))
            (shutil.copytree if folder.is_dir() else shutil.copy)(folder, target)
        for file in sorted((decaf / "assets").glob("*/S4.pkl")) + sorted((decaf / "assets").glob("*/train/S4_*")):
            shutil.copy(file, file.with_name(file.name.replace("S4", copy)))
    write_assets(decaf, np.arange(bodies[1].num_vertices), NECK, {})
    hands = root / "FreiHAND_pub_v2" / "training_mano.json"
    hands.parent.mkdir()
    hands.write_text(json.dumps(np.random.default_rng(0).normal(0, 0.3, (5, 1, 61)).tolist()))
    (root / "photo.jpg").write_bytes(dict(demo_files())["touch_astronaut_right.jpg"])
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def wild(licensed: Path, make_sample, write_tar) -> Path:  # type: ignore[no-untyped-def]
    """Labelled photos."""
    (licensed / "out" / "parts").mkdir(parents=True)
    return write_tar(licensed / "out" / "parts" / "part-0.tar", [make_sample(seed, side=64) for seed in range(4)])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_the_licences_to_the_table(licensed: Path, wild: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_section("Import the bodies")
    run_section("Convert")
    capsys.readouterr()
    run_section("Look before you train")
    row = re.findall(r"^decaf +(\d+) +(\d+)", capsys.readouterr().out, re.M)
    # S5 and S7 are copies of S4, whose pictures are taken once
    count = str(2 * FRAMES * len(cameras()))
    assert row == [(count, count)], "every sample has 3D labels"
    run_section("Priors, if you want them")

    run_section("Train")
    again = small(commands("Train")[0])
    flags = again[again.index("handface.jobs.train") + 1 :]
    flags[flags.index("--steps") + 1] = "3"
    assert main(["train", *flags]) == 0
    assert steps("out/run")[-1] == 3
    sizes = read_config(Path("out/run/best")).sizes
    assert (sizes.hand.vertices[0], sizes.head.vertices[0]) == (778, 602)

    run_section("The table, and photos")
    table = (licensed / "out" / "table" / "table.md").read_text()
    assert "PVE*" in table and "mean pose" in table and "network, drawn" in table
    found = json.loads((licensed / "out" / "predictions" / "photo.json").read_text())
    assert found["persons"][0]["hand"]["body"] == "bodies/mano.npz"

    spec = replace(NARROW, hand=(778, 195), head=(602, 120, 40), positions=400)
    torch.manual_seed(0)
    save_released(randomise(NETWORK(spec), 1), licensed / "model.bin")
    torch.save({"D": [select(778, 195)]}, licensed / "hand_mesh_transforms.pt")
    torch.save({"D": [select(602, 120), select(120, 40)]}, licensed / "head_mesh_transforms.pt")
    run_section("Fine-tune the authors' weights")
    tuned, released = (read_config(Path(folder)) for folder in ("out/tuned/best", "out/dice"))
    assert tuned.released and tuned.sizes.head.keep == released.sizes.head.keep


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("bucket")
def test_on_an_object_store_and_on_ray(licensed: Path) -> None:
    run_section("Import the bodies")
    (held,) = (command for command in commands("Convert") if "out/decaf-held" in command)
    (test,) = (command for command in commands("Convert") if "out/decaf-test" in command)
    assert [main(small(command)[1:]) for command in (held, test)] == [0, 0]
    run_section("On an object store, on Ray")


def test_without_a_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_section("Try it without a licence")
    assert steps("out/run-free")[-1] == 2
