"""Could the hand be there? Penetration, touch, and the paper's rule for what its distance function calls leaks."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from handface.trainers.metrics.distance import inside_depth
from handface.trainers.metrics.meshes import Meshes

DEEP = 0.005  # metres inside that make a frame collide
TOUCH = 0.005  # metres from the surface, on either side, that count as touching
LEAK = 0.05  # metres inside from which on the paper's script takes a value for an error and sets it to 0


@dataclass(frozen=True)
class Surface:
    """The head's triangles. faces: (F, 3).  caps: (C, 3) that close it; () of them if the body has no holes or none are known."""

    faces: torch.Tensor
    caps: torch.Tensor


Depths = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Row of the batch -> signed distances (Vh,) of its hand, positive inside: to the head as it is, and to the closed head."""


@torch.no_grad()
def hand_depths(meshes: Meshes, surface: Surface, known: torch.Tensor) -> Depths:
    """How deep the hand's vertices are in the deformed head, metres, for the rows where `known` (B,) bool holds.

    Exact inside and up to `TOUCH` outside, which is all that is judged; beyond, only that it is more.
    """
    return {
        index: inside_depth(meshes.hand[index], meshes.deformed[index], surface.faces, surface.caps, within=TOUCH)
        for index in known.nonzero()[:, 0].tolist()
    }


def plausibility(prediction: Depths, truth: Depths, known: torch.Tensor) -> dict[str, torch.Tensor]:
    """Per sample, (B,) each, twice: as the paper's script has it (open mesh, leaks set to 0, so that a leaked vertex counts as
    touching) and, with the suffix `_closed`, on the closed head with nothing set to 0. known: (B,) bool; 0 elsewhere.

    collision: sum of inside depths over the number of hand vertices, metres.  free: 1 if no hand vertex is 5 mm or more inside.
    true_touches: 1 if any vertex of the true hand is within 5 mm of the true surface.  both_touch: 1 if the prediction's is, too.
    leaks: number of predicted vertices that the paper's rule sets to 0.  surfaces: 1 where measured.
    """
    names = ("collision", "free", "true_touches", "both_touch")
    columns = {
        name: torch.zeros(len(known), dtype=torch.float32, device=known.device)
        for name in ("surfaces", "leaks", *names, *(f"{name}_closed" for name in names))
    }
    for index, mine in prediction.items():
        true = truth[index]
        columns["surfaces"][index] = 1
        columns["leaks"][index] = (mine[0] >= LEAK).sum()
        for suffix, depth, reference in (("", _clamped(mine[0]), _clamped(true[0])), ("_closed", mine[1], true[1])):
            row, expected = judge(depth), judge(reference)["touches"]
            columns[f"collision{suffix}"][index] = row["collision"]
            columns[f"free{suffix}"][index] = row["free"]
            columns[f"true_touches{suffix}"][index] = expected
            columns[f"both_touch{suffix}"][index] = expected * row["touches"]
    return columns


def judge(depth: torch.Tensor) -> dict[str, torch.Tensor]:
    """{"collision", "free", "touches"} of one frame. depth: (V,) signed distances of the hand's vertices, positive inside."""
    return {
        "collision": depth.clamp(min=0).mean(),
        "free": (depth < DEEP).all().float(),
        "touches": (depth.abs() <= TOUCH).any().float(),
    }


def _clamped(depth: torch.Tensor) -> torch.Tensor:
    return torch.where(depth >= LEAK, 0.0, depth)
