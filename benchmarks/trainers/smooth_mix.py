"""Make neighbouring vertices of a trained network ask for the same mix of image features: two steps in the making of `model/data/dice-nano`.

    python -m benchmarks.trainers.smooth_mix --model out/nano-2/best --output out/nano-2-smooth
    python -m benchmarks.trainers.smooth_mix --model out/nano-3/best --output out/nano-3-smooth --outliers out/validation

`Dice.mix` starts each token from random weights over the cells of the feature map. In a short training some never find their place, and their
vertices stand out of the mesh as spikes. Every row becomes the mean of its nine nearest of the same kind on the template; with --outliers only
the rows of coarse head vertices that err more than 1.2 times as much as their eight neighbours, and those become the neighbours' mean.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from handface.model.network.dice import Dice
from handface.model.weights.checkpoint import load_dice, save_tensors
from handface.trainers.bodies import Bodies
from handface.trainers.data import DataConfig, DatasetConfig, make_pass
from handface.trainers.targets import make_targets

NEAREST, EXCESS = 9, 1.2
COARSE_HEAD = 3  # among the groups of tokens: hand keypoints, head keypoints, coarse hand, coarse head


@dataclass(frozen=True)
class Config:
    model: Path
    """Checkpoint folder."""
    output: Path
    """Folder for the changed one."""
    outliers: str | None = None
    """Shards to find outliers on (never those the network is judged by); without, every row changes."""


def nearest(model: Dice) -> list[torch.Tensor]:
    """Per group of tokens (n, NEAREST): the tokens next to each on the template, itself first."""
    groups = model.template.split(list(model.config.sizes.groups))
    return [torch.cdist(part, part).topk(min(NEAREST, len(part)), largest=False).indices for part in groups]


def outliers(model: Dice, shards: str, around: torch.Tensor) -> torch.Tensor:
    """Indices of coarse head vertices that err EXCESS times as much as those around them, on 256 samples."""
    data = DataConfig((DatasetConfig("outliers", (shards,), limit=256),), batch_size=256, workers=0)
    batch = next(iter(make_pass(replace(data, image_size=model.config.input.size))))
    truth = make_targets(batch, Bodies.of(model.config)).head.vertices[2]
    with torch.inference_mode():
        head = model.eval()(batch.images).head.vertices
    errors = (head[2] - head[0].mean(1, keepdim=True) - truth).norm(dim=2).mean(0)
    return (errors > EXCESS * errors[around[:, 1:]].mean(1)).nonzero()[:, 0]


def main(config: Config) -> None:
    model = load_dice(config.model)
    around = nearest(model)
    rows = list(model.mix.weight.detach().split([len(part) for part in around]))
    if config.outliers is None:
        rows = [part[near].mean(1) for part, near in zip(rows, around, strict=True)]
        print(f"{sum(map(len, rows))} rows smoothed")
    else:
        near = around[COARSE_HEAD]
        found = outliers(model, config.outliers, near)
        changed = rows[COARSE_HEAD].clone()
        changed[found] = rows[COARSE_HEAD][near[found, 1:]].mean(1)
        rows[COARSE_HEAD] = changed
        print(f"{len(found)} of {len(near)} rows of coarse head vertices replaced")
    state = model.state_dict() | {"mix.weight": torch.cat(rows)}
    save_tensors(state, model.config, config.output, trained=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
