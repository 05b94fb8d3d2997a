"""The joints of a body from the root outwards: where each ends up when all of them turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class KinematicTree(nn.Module):
    """A tree of joints, walked a generation at a time: a hand's 16 joints take four steps."""

    order: torch.Tensor
    back: torch.Tensor
    elder: torch.Tensor

    def __init__(self, parents: Sequence[int]) -> None:
        """parents: of each joint, the root's is -1; a parent comes before its children."""
        super().__init__()
        age: list[int] = []
        for parent in parents:
            age.append(0 if parent < 0 else age[parent] + 1)
        order = sorted(range(len(parents)), key=age.__getitem__)
        self.sizes = [age.count(k) for k in range(max(age) + 1)]
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.tensor(order).argsort(), persistent=False)
        self.register_buffer("elder", torch.tensor(parents[1:]), persistent=False)
        first = 0
        for generation, size in enumerate(self.sizes[1:], 1):
            elders = order[first : first + self.sizes[generation - 1]]
            first += len(elders)
            rows = [elders.index(parents[joint]) for joint in order[first : first + size]]
            self.register_buffer(f"parents_{generation}", torch.tensor(rows), persistent=False)

    def offsets(self, joints: torch.Tensor) -> torch.Tensor:
        """Joints (B, J, ...) less their parents; of the root its own place."""
        return torch.cat([joints[:, :1], joints[:, 1:] - joints.index_select(1, self.elder)], 1)

    def forward(self, turns: torch.Tensor, offsets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each joint's rotation in the world (B, J, 3, 3) and its place (B, J, 3, K).

        turns: (B, J, 3, 3), each joint's own rotation.  offsets: (B or 1, J, 3, K), from its parent at rest, K vectors at once.
        """
        turned = turns.index_select(1, self.order).split(self.sizes, 1)
        away = offsets.index_select(1, self.order).split(self.sizes, 1)
        worlds, places = [turned[0]], [away[0].expand(len(turns), -1, -1, -1)]
        for generation in range(1, len(self.sizes)):
            rows: torch.Tensor = getattr(self, f"parents_{generation}")
            world, place = worlds[-1].index_select(1, rows), places[-1].index_select(1, rows)
            worlds.append(world @ turned[generation])
            places.append(place + world @ away[generation])
        return torch.cat(worlds, 1).index_select(1, self.back), torch.cat(places, 1).index_select(1, self.back)
