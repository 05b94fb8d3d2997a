"""A network that can learn at all fits four pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from handface.jobs.cli import main
from handface.trainers.config import OptimConfig, TrainConfig
from handface.trainers.data import AugmentConfig, DataConfig, DatasetConfig
from handface.trainers.losses import LossConfig, LossWeights
from handface.trainers.trainer import train

STEPS = 150


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on a quiet core
def test_an_untrained_network_learns_four_scenes_to_under_three_millimetres(tmp_path: Path) -> None:
    """PVE of the posed bodies, hand and head, from random weights: whole pictures, whole loop, `dice-nano` as it is."""
    scenes = str(tmp_path / "scenes")
    assert main(["synthesize", "--count", "4", "--size", "192", "--output", scenes, "--local"]) == 0
    four = DatasetConfig("scenes", (scenes,))
    config = TrainConfig(
        data=DataConfig((four,), image_size=128, batch_size=4, workers=0, augment=AugmentConfig.none()),
        output=str(tmp_path / "run"),
        preset="dice-nano",
        steps=STEPS,
        validation=(four,),
        validate_every=STEPS,
        checkpoint_every=STEPS,
        loss=LossConfig(LossWeights(touch=0, collision=0, depth=0, parameters=50)),
        optim=OptimConfig(lr=3e-3, warm_up=20, schedule="cosine", clip_value=None, clip_norm=10),
    )
    result = train(config)
    assert result.metric == "pve" and result.best is not None and result.best < 3.0  # mm
