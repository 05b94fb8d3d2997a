"""How far the other part lies from every token of the drawn mesh: most of what tells which vertices touch."""

from __future__ import annotations

import torch
from torch import nn

from handface.model.network.config import NearnessConfig

_UNIT = 0.05  # metres
_FAR = 3.0  # units; what lies farther away says nothing more
_INPUTS = 11


class Nearness(nn.Module):
    """Where tokens are -> what InteractionNet is told of it. (B, T, 3) metres -> (B, T, width)."""

    def __init__(self, width: int, groups: tuple[int, int, int, int], config: NearnessConfig) -> None:
        super().__init__()
        self.groups, self.reach = list(groups), config.reach
        self.read = nn.Sequential(nn.Linear(_INPUTS, config.hidden), nn.ReLU(), nn.Linear(config.hidden, width))

    def forward(self, coordinates: torch.Tensor) -> torch.Tensor:
        """coordinates: (B, T, 3) hand keypoints, head keypoints, hand, head vertices. Contact is not to move them: no gradient."""
        # in bf16 a metre has steps of millimetres
        places = coordinates.detach().float()
        hand_points, head_points, hand, head = places.split(self.groups, 1)
        to_head = self._describe(torch.cat([hand_points, hand], 1), head)
        to_hand = self._describe(torch.cat([head_points, head], 1), hand)
        (a, b), (c, d) = to_head.split(self.groups[::2], 1), to_hand.split(self.groups[1::2], 1)
        about = (places - head.mean(1, keepdim=True)) / (2 * _UNIT)
        told = torch.cat([about, torch.cat([a, c, b, d], 1)], 2)
        return self.read(told.clamp(-_FAR, _FAR).to(coordinates.dtype))

    def _describe(self, points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """The way to the nearest of `others`, in space and in the picture plane, softly, and its length. (B, N, 3), (B, M, 3) -> (B, N, 8)."""
        away = [(points[:, :, None, axis] - others[:, None, :, axis]).square() for axis in range(3)]
        told = []
        for squared in (away[0] + away[1] + away[2], away[0] + away[1]):
            weights = (squared / (-2 * self.reach**2)).softmax(2)  # (B, N, M)
            way = weights @ others - points
            told += [way, (weights * squared).sum(2, keepdim=True).sqrt()]
        return torch.cat(told, 2) / _UNIT
