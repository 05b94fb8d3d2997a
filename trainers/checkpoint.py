"""Checkpoints: everything a run needs to go on exactly, in one file that loads with `weights_only`, there whole or not at all."""

from __future__ import annotations

import logging
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from handface.trainers.config import TrainConfig
from handface.trainers.step import TrainStep

log = logging.getLogger(__name__)
FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{9})\.pt$")


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names it and says what to do."""


@dataclass
class Progress:
    """How far a run is. step: steps done.  skip: steps whose batch is passed over.  best: lowest validation error so far, metres."""

    step: int = 0
    skip: list[int] = field(default_factory=list)
    best: float = float("inf")
    rollbacks: int = 0


def save(folder: Path, trainer: TrainStep, progress: Progress, data: dict[str, Any], config: str, keep: int) -> Path:
    """Write `checkpoints/step-<n>.pt` and remove all but the newest `keep`. Rank 0 calls it.

    Random numbers need no state: masks, dropout, augmentation and real parameters are functions of seed and step.
    """
    state: dict[str, Any] = {
        "progress": vars(progress) | {"skip": list(progress.skip)},
        "data": data,
        "config": config,
        "network": trainer.network.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
    }
    if trainer.average is not None:
        state["average"] = {"state": trainer.average.state, "steps": trainer.average.steps}
    if trainer.priors is not None:
        state["priors"] = trainer.priors.state_dict()
        state["judge_optimizer"] = trainer.judge_optimizer.state_dict()
    target = folder / FOLDER / f"step-{progress.step:09d}.pt"
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        torch.save(state, stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(target)
    _fsync(target.parent)  # the name, too, survives a power failure
    for old in _found(folder)[:-keep]:
        old.unlink(missing_ok=True)
    for leftover in target.parent.glob(".step-*"):
        leftover.unlink(missing_ok=True)
    return target


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def newest(folder: Path) -> Path | None:
    """The checkpoint with the most steps, or None."""
    found = _found(folder)
    return found[-1] if found else None


def allowed(found: Path | None, config: TrainConfig) -> Path | None:
    """The newest checkpoint, from which a run goes on; None where it begins. Raises CheckpointError if it may only begin."""
    if found is not None and config.resume == "never":
        raise CheckpointError(f"{config.output}: holds a run already and resume is 'never'; choose another folder")
    return found


def _found(folder: Path) -> list[Path]:
    return sorted(p for p in (folder / FOLDER).glob("step-*.pt") if _NAME.search(p.name))


def load(path: Path, trainer: TrainStep) -> tuple[Progress, dict[str, Any], str]:
    """Put a checkpoint's state into a trainer; returns progress, the loader's state and the configuration's JSON.

    Raises CheckpointError naming the file.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        trainer.network.load_state_dict(state["network"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        if trainer.average is not None:
            trainer.average.steps = state["average"]["steps"]
            for name, value in state["average"]["state"].items():
                trainer.average.state[name].copy_(value)
        if trainer.priors is not None:
            trainer.priors.load_state_dict(state["priors"])
            trainer.judge_optimizer.load_state_dict(state["judge_optimizer"])
        return Progress(**state["progress"]), state["data"], state["config"]
    except Exception as error:  # torch raises many kinds for damaged files
        raise CheckpointError(
            f"{path}: cannot be resumed from ({type(error).__name__}: {error}); remove it to go on from the one before,"
            " or set resume to never"
        ) from error


def export(folder: Path, name: str, trainer: TrainStep, note: dict[str, Any]) -> Path:
    """Write the weights (the average's, if there is one) as a folder that `handface predict --model` reads: best/ or last/."""
    import json

    from handface.model.weights.checkpoint import save_tensors

    tensors = trainer.average.state if trainer.average is not None else trainer.network.state_dict()
    target = folder / name
    fresh = folder / f".{name}.{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    save_tensors(tensors, trainer.network.config, fresh, trained=True)
    (fresh / "training.json").write_text(json.dumps(note, indent=1) + "\n")
    shutil.rmtree(target, ignore_errors=True)
    fresh.replace(target)
    return target
