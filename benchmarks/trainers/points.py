"""Points that the detector found against labelled ones in the phase without pictures: what each teaches, several seeds.

    python -m benchmarks.trainers.points --shards out/open out/old out/studio out/open34 --held out/held out/dev \
        --found out/found.parquet --save

Held-out scenes are seen through the detector, those in which it finds the labelled person; and once with their true points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import tyro

from benchmarks.results import Figure, report
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.trainers.bodies import Bodies
from handface.trainers.points import PointLabels, PointsPhase, learn_points, posed_tokens

_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 95 %, by number of seeds


@dataclass(frozen=True)
class Config:
    """What is measured."""

    shards: tuple[str, ...]
    """Scenes to learn from."""
    held: tuple[str, ...]
    """Scenes to measure on."""
    found: tuple[str, ...]
    """Lists of what the detector finds in both (`handface weights points`)."""
    shares: tuple[float, ...] = (0.0, 0.75)
    """Chances that a sample's points are the detector's."""
    steps: int = 1500
    """Of each run, 128 samples each."""
    seeds: int = 3
    """Runs of each share."""
    save: bool = False
    """Write the figures to docs/results/ablation.csv and its page."""


def main(config: Config) -> None:
    """Measure and print each share."""
    torch.set_num_threads(1)
    network = Dice.from_preset("dice-m", Topology.from_bodies())
    labels = PointLabels.read(network, config.shards, config.found)
    held = PointLabels.read(network, config.held, config.found)
    seen = (held.points != held.found).flatten(1).any(1)
    held = PointLabels(*(getattr(held, field.name)[seen] for field in fields(held)))
    print(f"{len(labels.points):,} scenes, {len(held.points)} held out", flush=True)
    figures: list[Figure] = []
    for share in config.shares:
        runs = []
        for seed in range(config.seeds):
            torch.manual_seed(seed)
            network = Dice.from_preset("dice-m", Topology.from_bodies())
            learn_points(network, labels, PointsPhase(steps=config.steps, seed=seed, found=share))
            runs.append(
                errors(network, held)
                | {f"{k}, true points": v for k, v in errors(network, replace(held, found=held.points)).items()}
            )
            print(share, seed, {name: round(value, 2) for name, value in runs[-1].items()}, flush=True)
        row = "labelled points" if share == 0 else f"{share:.0%} the detector's"
        for name in runs[0]:
            figures.append(Figure(f"points alone | {row} | {name}", _with_interval([run[name] for run in runs])))
    report("ablation", figures, config.save)


@torch.no_grad()
def errors(network: Dice, held: PointLabels) -> dict[str, float]:
    """Mean distances of posed coarse vertices, mm, given the found points; and how well presence tells touch."""
    assert network.point_cells is not None and network.placement is not None
    blank = held.found.new_zeros(len(held.found), network.picture_cells, network.backbone.features)
    cells = torch.cat([blank, network.point_cells(held.found, blank)], 1)
    away = posed_tokens(network, Bodies.of(network.config), network.placement(cells, network.template)) - held.tokens
    _, _, hand, head = (1000 * away).split(list(network.config.sizes.groups), 1)
    scores, touching = network.presence(cells), held.presence > 0
    above = (scores[touching][:, None] > scores[~touching]).float().mean()
    return {
        "PVE hand mm": float(hand.norm(dim=2).mean()),
        "PVE head mm": float(head.norm(dim=2).mean()),
        "hand_z mm": float(hand.mean(1)[:, 2].abs().mean()),
        "presence AUC": float(above),
    }


def _with_interval(values: list[float]) -> str:
    """Mean and 95 % interval over seeds."""
    mean, count = float(np.mean(values)), len(values)
    if count not in _STUDENT:
        return f"{mean:.3g}"
    return f"{mean:.3g} ± {_STUDENT[count] * float(np.std(values, ddof=1)) / math.sqrt(count):.2g}"


if __name__ == "__main__":
    main(tyro.cli(Config))
