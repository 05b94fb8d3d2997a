"""What a run left in its folder, for tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from handface.trainers.config import TrainConfig
from handface.trainers.run_folder import checkpoint


def logged(config: TrainConfig) -> dict[int, dict[str, float]]:
    """{step: training values} of a run's log."""
    lines = [json.loads(line) for line in (Path(config.output) / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line for line in lines if "loss" in line}


def losses(config: TrainConfig) -> dict[int, dict[str, float]]:
    """The log without times."""
    return {step: {k: v for k, v in line.items() if not k.startswith("time/")} for step, line in logged(config).items()}


def checkpoints(config: TrainConfig) -> list[Path]:
    """Those that resuming looks at, oldest first."""
    folder = Path(config.output) / checkpoint.FOLDER
    return [folder / name for name in checkpoint.list_checkpoints(config.output)]


def newest(config: TrainConfig) -> dict[str, object]:
    """What the newest checkpoint holds."""
    found: dict[str, object] = torch.load(checkpoints(config)[-1], weights_only=True)
    return found
