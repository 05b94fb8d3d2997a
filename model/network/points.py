"""The detector's points as feature cells: what is known of a picture before the network looks at it."""

from __future__ import annotations

import torch
from torch import nn

from handface.model.network.config import PointsConfig

POINTS = 68 + 21


class PointCells(nn.Module):
    """Face and hand points -> feature cells. (B, 89, 3) -> (B, cells, features).

    Points are pixels of the network's picture, centres at integers, and a confidence; 0: not there, whatever x and y say.
    Without points the cells are those of a picture in which nobody found any.
    """

    def __init__(self, features: int, size: int, config: PointsConfig) -> None:
        super().__init__()
        self.config, self.size, self.features = config, size, features
        self.read = nn.Sequential(
            nn.Linear(POINTS * 3, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.cells * features),
        )

    def forward(self, points: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
        """points: (B, 89, 3) or None.  like: a tensor with the batch, dtype and device of the cells. -> (B, cells, features)."""
        if points is None:
            points = like.new_zeros(len(like), POINTS, 3)
        known = (points[..., 2:] > 0).to(like.dtype)
        places = (points[..., :2].to(like.dtype) / (self.size - 1) * 2 - 1).clamp(-3, 3)
        if self.training:
            places, known = self._disturb(places, known)
        read = self.read(torch.cat([places * known, known], 2).flatten(1))
        return read.unflatten(1, (self.config.cells, self.features))

    def _disturb(self, places: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points as a detector might have found them: each a little off, each part a little off as a whole, some missing."""
        count, config = len(places), self.config
        draw = {"dtype": places.dtype, "device": places.device}
        face, hand = (torch.randn(2, count, 1, 2, **draw) * config.jitter * 2).unbind(0)
        shift = torch.cat([face.expand(-1, 68, -1) * 0.3, hand.expand(-1, 21, -1)], 1)
        size = torch.rand(count, 1, 1, **draw) * 2 * config.jitter
        places = places + shift + size * torch.randn(places.shape, **draw)
        lost = torch.rand(count, 3, **draw) < config.drop
        kept_face, kept_hand = ~(lost[:, :1] | lost[:, 1:2]), ~(lost[:, :1] | lost[:, 2:])
        kept = torch.cat([kept_face.expand(-1, 68), kept_hand.expand(-1, 21)], 1)[..., None]
        return places, known * kept
