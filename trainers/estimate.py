"""How long a run will take on this machine, measured on copies, so that nothing of the run changes."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from handface.trainers.build import build_network
from handface.trainers.config import TrainConfig
from handface.trainers.data import make_loader
from handface.trainers.data.probe import with_bodies
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.step import TrainStep

if TYPE_CHECKING:
    from handface.trainers.batch import Batch

log = logging.getLogger(__name__)
_MEASURED = 2  # steps after the first, which also allocates memory
_SMALL = 4  # samples that tell enough about a step on a CPU
_LONG_S = 3 * 86400.0


def estimate(config: TrainConfig) -> str:
    """One line: seconds a step and the whole run, on this process's device."""
    config = replace(config, data=with_bodies(config.data))
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    loader = make_loader(replace(config.data, workers=0), pin_memory=False)
    seconds = measure_step(config, device, next(iter(loader)))
    return f"{config.preset}: {describe(seconds, config)}"


def measure_step(config: TrainConfig, device: torch.device, batch: Batch) -> float:
    """Seconds of one step of this rank, without reading data. On a CPU it is scaled up from a few samples of the batch."""
    used = batch if device.type == "cuda" else batch[: max(2, min(_SMALL, len(batch)))]
    apart = replace(config, compile=False, priors=None, optim=replace(config.optim, accumulate=1, ema=0.0))
    step = TrainStep(build_network(apart), apart, Ranks(0, 1, device))
    used, taken = used.to(device), []
    for number in range(1 + _MEASURED):
        start = time.perf_counter()
        float(step(number, [used]).norm)
        taken.append(time.perf_counter() - start)
    return min(taken[1:]) * config.data.batch_size / len(used) * config.optim.accumulate


def describe(seconds: float, config: TrainConfig, done: int = 0) -> str:
    """`4.1 s a step, 3 days for 60,000 steps`."""
    whole = seconds * (config.steps - done)
    return f"{seconds:.3g} s a step, {_spelled(whole)} for {config.steps - done:,} steps"


def warn_if_long(seconds: float, config: TrainConfig, device: torch.device, done: int) -> None:
    """Say before it starts that a run on a CPU would take days or weeks."""
    whole = seconds * (config.steps - done)
    if device.type == "cpu" and whole > _LONG_S:
        log.warning(
            "on this CPU: %s; --preset dice-nano, fewer --steps or a GPU make it shorter",
            describe(seconds, config, done),
        )


def _spelled(seconds: float) -> str:
    for unit, length in (("weeks", 7 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} seconds"
