"""How long the network takes per picture, by device, batch and precision."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from handface.model.network.deploy.inference import InferenceConfig, prepare
from handface.model.network.dice import Dice


@dataclass(frozen=True)
class Speed:
    """One measurement. milliseconds: per picture, the median run; threads: of the CPU."""

    device: str
    precision: str
    batch: int
    milliseconds: float
    threads: int


def measure_speed(
    model: Dice, batches: Sequence[int] = (1, 8), precisions: Sequence[str] = ("fp32",), seconds: float = 1.0
) -> list[Speed]:
    """Time the network on random pictures on its own device; about `seconds` for each combination after a first run."""
    device, size = model.template.device, model.config.input.size
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found = []
    for precision in precisions:
        run = prepare(model, InferenceConfig("bf16" if precision == "bf16" else "fp32"))
        for batch in batches:
            generator = torch.Generator().manual_seed(0)
            images = torch.randint(0, 256, (batch, 3, size, size), generator=generator, dtype=torch.uint8).to(device)
            times: list[float] = []
            run(images)
            while len(times) < 3 or sum(times) < seconds:
                _wait(device)
                start = time.perf_counter()
                run(images)
                _wait(device)
                times.append(time.perf_counter() - start)
            milliseconds = 1e3 * sorted(times)[len(times) // 2] / batch
            found.append(Speed(name, precision, batch, milliseconds, torch.get_num_threads()))
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
