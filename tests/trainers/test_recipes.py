"""What a preset brings along is enough: `handface train` with a data set and nothing else learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handface.jobs.cli import main
from handface.model.network.topology import Topology
from handface.trainers.data import AugmentConfig, DataConfig, DatasetConfig, make_pass
from handface.trainers.evaluation.run import collect
from handface.trainers.evaluation.systems import MeanPose
from handface.trainers.evaluation.truth import LabelMeshes
from handface.trainers.metrics import BootstrapConfig, summarise

SCENES, STEPS = 8, 100


def mean_pose_error(scenes: str) -> float:
    """PVE of the mean of the scenes' own labels, mm: what a network knows that has seen no picture."""
    truth = LabelMeshes(Topology.from_bodies().sizes)
    data = DataConfig((DatasetConfig("scenes", (scenes,)),), image_size=128, workers=0, augment=AugmentConfig.none())
    system = MeanPose.of(make_pass(data), truth)
    records = collect({"mean": system}, make_pass(replace(data, batch_size=16)), truth, surface=None)["mean"]
    return summarise(records, BootstrapConfig(replicates=0))["pve"].value


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_of_the_readme_is_well_past_the_mean_pose_after_a_few_steps(tmp_path: Path) -> None:
    scenes, output = str(tmp_path / "scenes"), tmp_path / "run"
    assert main(["synthesize", "--count", str(SCENES), "--size", "128", "--output", scenes, "--local"]) == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    flags = ["--preset", "dice-nano", "--steps", str(STEPS), "--batch-size", "4", "--output", str(output)]
    assert main(["train", "--train", scenes, "--validation", scenes, *flags]) == 0
    reached = json.loads((output / "best" / "training.json").read_text())["error"]
    known = mean_pose_error(scenes)
    torch.set_num_threads(threads)
    assert reached < 0.85 * known, f"{reached:.1f} mm against {known:.1f} mm of the mean pose"
