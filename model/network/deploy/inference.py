"""Run a network fast: folded, channels last, mixed precision, compiled; the caller sees images in, DiceOutput out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from handface.model.network.deploy.fold import fold
from handface.model.network.dice import Dice
from handface.model.network.output import DiceOutput


class Runner(Protocol):
    """Pictures, and the detector's points if there are any, -> prediction."""

    def __call__(self, images: torch.Tensor, points: torch.Tensor | None = None) -> DiceOutput:
        """images: (B, 3, S, S).  points: (B, 89, 3), see `Dice.forward`."""


@dataclass(frozen=True)
class InferenceConfig:
    """How to run. The defaults are exact to rounding."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """`bf16`: autocast; relative error about 1 %."""
    compile: bool = False
    """torch.compile: tens of seconds at the first call of every batch size; on CUDA with CUDA graphs."""


def choose_device(name: str) -> torch.device:
    """cpu, cuda, cuda:1, ...; auto is a GPU if there is one. Raises ValueError for a device that cannot be used here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch says it in either way
        first = (str(error).splitlines() or ["unknown"])[0]
        raise ValueError(f"device {name!r} cannot be used here ({first}); cpu always can") from error


def prepare(model: Dice, config: InferenceConfig = InferenceConfig()) -> Runner:
    """A function images (B, 3, S, S), points -> DiceOutput in float32, on the model's device. The model itself is left as it is."""
    network = fold(model)
    network.backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks the keyword-only form
    device = network.template.device
    forward: Callable[..., DiceOutput] = network
    if config.compile:
        forward = torch.compile(network, mode="reduce-overhead" if device.type == "cuda" else "default")
    mixed = config.precision == "bf16"

    def run(images: torch.Tensor, points: torch.Tensor | None = None) -> DiceOutput:
        images = images.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            output = forward(images, points=None if points is None else points.to(device))
        if not mixed and not config.compile:
            return output
        # Out of the CUDA graph's own memory, which the next call overwrites, and back to float32.
        return DiceOutput.unflatten({name: value.float().clone() for name, value in output.flatten().items()})

    return run
