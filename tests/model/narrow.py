"""A narrow network on the free bodies' kind of topology, quick enough for every test."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import numpy as np

from handface.model.network.config import (
    BlockConfig,
    DiceConfig,
    HRNetConfig,
    RegressorConfig,
    StageConfig,
    UpsamplingConfig,
    preset,
)
from handface.model.network.topology import PartSizes, PartTopology, Sizes, Topology, UpStep

BACKBONE = HRNetConfig(
    stem=8,
    stage1_blocks=1,
    stage1_planes=4,
    stages=(StageConfig(1, 1, (4, 6)), StageConfig(1, 1, (4, 6, 8)), StageConfig(1, 1, (4, 6, 8, 10))),
    head_planes=(2, 3, 4, 5),
    features=12,
)


def narrow_topology(seed: int = 0) -> Topology:
    """23 tokens: 3 + 4 keypoints, 7 hand and 9 head vertices; every fine vertex between three coarse ones."""
    rng = np.random.default_rng(seed)

    def part(sizes: PartSizes) -> PartTopology:
        steps = []
        for coarse, fine in zip(sizes.vertices[:0:-1], sizes.vertices[-2::-1], strict=True):
            indices = np.stack([rng.permutation(coarse)[:3] for _ in range(fine)])
            steps.append(UpStep(indices, rng.dirichlet(np.ones(3), fine), coarse))
        keypoints, coarse_vertices = (
            rng.normal(0.2, 0.1, (sizes.keypoints, 3)),
            rng.normal(0.1, 0.1, (sizes.vertices[-1], 3)),
        )
        return PartTopology(sizes, keypoints, coarse_vertices, tuple(steps))

    hand = PartSizes((20, 7), keypoints=3, betas=2, pose=6, body="small-hand")
    head = PartSizes((40, 17, 9), keypoints=4, betas=3, pose=6, expression=5, body="small-head")
    return Topology(part(hand), part(head))


def narrow_config(sizes: Sizes | None = None, **changes: object) -> DiceConfig:
    """`dice-s` with everything small, and with the paper's regressors."""
    base = preset("dice-s", sizes or narrow_topology().sizes)
    narrow = replace(
        base,
        backbone=BACKBONE,
        mesh=(BlockConfig(16, 12, 1, 2, 20), BlockConfig(8, 3, 1, 2, 20)),
        interaction_in=10,
        interaction=(BlockConfig(8, 4, 1, 2, 20),),
        presence=(8, 6),
        input=replace(base.input, size=64),
        upsampling=UpsamplingConfig("mesh", rank=4),
        regressor=RegressorConfig(16, 1, 2),
        placement=None,
        preset="narrow",
    )
    return dataclasses.replace(narrow, **changes)  # type: ignore[arg-type]
