"""`handface evaluate` and `handface priors`: files, exit codes, messages."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from handface.jobs.cli import main
from handface.jobs.evaluate import ORACLE
from handface.model.network.config import preset
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.model.weights import checkpoint
from handface.pipeline.contract.found_points import dump_points
from handface.pipeline.contract.tables import load_table
from handface.trainers.evaluation.run import Row
from handface.trainers.evaluation.setup import oracle_error
from handface.trainers.metrics import Estimate
from handface.trainers.priors import ParameterSet
from tests.trainers.labelled import studio_samples


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, make_sample: Any, write_tar: Any) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    return Path(write_tar(folder / "studio.tar", studio_samples(make_sample, 4, 2)))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    topology = Topology.from_bodies()
    model = Dice(preset("dice-nano", topology.sizes), topology)
    with torch.no_grad():
        for parameter in model.interaction_net.parameters():
            parameter.mul_(0.05)
    return checkpoint.save_dice(model, tmp_path_factory.mktemp("dice"))


def test_everything_is_written(shards: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", f"studio={shards}", "--model", str(weights), "--train", str(shards), "--output", str(out)]
    arguments += ["--workers", "0", "--pictures", "1", "--replicates", "20", "--device", "cpu"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "4 samples" in printed and "PVE* (mm)" in printed and "mean pose" in printed and "oracle" in printed
    assert {path.name for path in out.iterdir()} == {
        "config.json",
        "index.html",
        "pictures",
        "results.csv",
        "results.json",
        "samples.parquet",
        "table.md",
    }
    assert len(list((out / "pictures").glob("*.png"))) == 3
    assert json.loads((out / "config.json").read_text())["shards"] == [f"studio={shards}"]
    document = json.loads((out / "results.json").read_text())
    systems = ["network", "network, drawn", "fitted", "mean bodies on the points", "mean pose", "oracle"]
    assert list(dict.fromkeys(row["system"] for row in document["rows"])) == systems
    assert [speed["batch"] for speed in document["speed"]] == [1, 8]


def test_without_a_network_the_baselines_are_measured_and_that_is_said(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["evaluate", str(shards), "--output", str(out), "--workers", "0", "--pictures", "0"]
    assert main([*arguments, "--no-plausibility", "--replicates", "0"]) == 0
    assert "No --model was given" in capsys.readouterr().out
    rows = json.loads((out / "results.json").read_text())["rows"]
    placed, oracle = (row for row in rows if row["split"] == "all")
    assert placed["system"] == "mean bodies on the points" and oracle["system"] == "oracle"
    assert "col_dist" not in oracle["by_frame"]
    assert oracle["by_frame"]["pve_same"] == [pytest.approx(0, abs=1e-4), None, None]


def test_scenes_whose_points_are_labels_have_no_baseline_and_still_a_table(
    make_sample: Any, write_tar: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And keys may lie in folders."""
    samples = [
        replace(s, meta=replace(s.meta, key=f"{folder}/0001", annotators=()))
        for folder, s in zip("ab", studio_samples(make_sample, 2), strict=True)
    ]
    shards, out = write_tar(tmp_path / "date=2024.tar", samples), tmp_path / "out"
    arguments = ["evaluate", str(shards), "--output", str(out), "--workers", "0", "--pictures", "1"]
    assert main([*arguments, "--no-plausibility", "--replicates", "0"]) == 0
    assert "No --model was given" in capsys.readouterr().out
    systems = {row["system"] for row in json.loads((out / "results.json").read_text())["rows"]}
    assert systems == {"oracle"}
    assert pq.read_table(out / "samples.parquet")["key"].to_pylist() == ["a/0001", "b/0001"]
    assert {path.name[-10:] for path in (out / "pictures").iterdir()} == {"a_0001.png", "b_0001.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one data set"),
        (["nothing/here"], "nothing/here: no such file or folder"),
        (["SHARDS", "--model", "no/such/folder"], "give a folder with config.json and model.safetensors"),
        (["SHARDS", "--device", "warp"], "device 'warp' cannot be used here"),
        (["SHARDS", "--hand-model", "nowhere.npz"], "nowhere.npz: no such file"),
    ],
)
def test_what_cannot_work_says_why_and_exits_2(
    arguments: list[str], message: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [str(shards) if argument == "SHARDS" else argument for argument in arguments]
    assert main(["evaluate", *named, "--output", str(tmp_path / "out"), "--workers", "0"]) == 2
    assert message in capsys.readouterr().err


def test_damaged_weights_exit_2(
    shards: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_bytes((weights / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes((weights / "model.safetensors").read_bytes()[:1000])
    assert main(["evaluate", str(shards), "--model", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "model.safetensors: damaged" in capsys.readouterr().err


def test_labels_that_miss_themselves_are_an_error() -> None:
    def row(system: str, value: float) -> Row:
        return Row(system, "all", "all", 1, 1, {"pve_same": Estimate(value, value, value)}, {})

    assert oracle_error([row("network", 50.0), row(ORACLE, 1e-5)], ORACLE) is None
    assert oracle_error([row(ORACLE, 0.1)], ORACLE) == "the labels themselves have pve_same 0.1000 mm instead of 0"


def test_priors_writes_one_small_file(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "real.safetensors"
    assert main(["priors", str(shards), "--output", str(out)]) == 0
    found = ParameterSet.load(out)
    assert found.hands().shape == (4, 55) and found.heads().shape[0] == 4 and found.hand_model == "free-hand"
    assert main(["priors", str(shards), "--output", str(tmp_path / "real.npz")]) == 2
    assert "must end in .safetensors" in capsys.readouterr().err


def test_a_network_that_looks_at_points_is_given_those_that_were_found(
    shards: Path, make_sample: Any, tmp_path: Path
) -> None:
    found = {}
    for one in studio_samples(make_sample, 4, 2):
        found[one.key] = np.concatenate([one.labels.face_keypoints_2d, one.labels.hand_keypoints_2d[0]])
        found[one.key][:, 0] += 20
    (tmp_path / "found.parquet").write_bytes(dump_points(found))

    def error(*more: str) -> float:
        arguments = ["evaluate", str(shards), "--model", "dice-m", "--output", str(tmp_path / "out"), *more]
        arguments += ["--workers", "0", "--pictures", "0", "--replicates", "0", "--no-plausibility", "--device", "cpu"]
        assert main([*arguments, "--no-speed"]) == 0
        samples = load_table((tmp_path / "out" / "samples.parquet").read_bytes()).to_pylist()
        return float(np.mean([row["pve"] for row in samples if row["system"] == "network"]))

    given = error("--found", str(tmp_path / "found.parquet"))
    assert abs(given - error()) > 1e-3 and abs(given - error("--no-points")) > 1e-3


@pytest.mark.parametrize(("width", "tables"), [(60, 4), (80, 2), (100, 2), (140, 1)])
def test_a_table_that_is_too_wide_comes_in_parts(width: int, tables: int) -> None:
    from rich.console import Console

    from handface.jobs.evaluate import tables_of

    console = Console(width=width, file=io.StringIO())
    systems, cells = ["network", "network, drawn", "mean pose", "oracle"], [f"{n}2.31 [11.20, 13.40]" for n in range(4)]
    found = list(
        tables_of("5 samples", systems, [[("PVE of hand and head, mm", cells)], [("F-score", cells)]], console)
    )
    for table in found:
        console.print(table)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert len(found) == tables and said.count("PVE of hand and head, mm") == tables
    assert max(map(len, said.splitlines())) <= width
    assert all(said.count(text) == 2 for text in cells) and all(name in said for name in systems)
