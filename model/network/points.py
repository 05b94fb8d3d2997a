"""The detector's points as feature cells: what is known of a picture before the network looks at it."""

from __future__ import annotations

import torch
from torch import nn

from handface.model.bodies.names import FACE_KEYPOINTS, HAND_KEYPOINTS, KEYPOINTS
from handface.model.network.config import PointsConfig

_INPUTS = KEYPOINTS * 3 + KEYPOINTS * 2 + HAND_KEYPOINTS * 2 + 2 * 3
_FAR = 4.0  # what lies farther out, in sizes of what it is measured by, says nothing more


class PointCells(nn.Module):
    """Face and hand points -> feature cells. (B, 89, 3) -> (B, cells, features).

    Points are pixels of the network's picture, centres at integers, and a confidence; 0: not there, whatever x and y say.
    Without points the cells are those of a picture in which nobody found any.
    """

    def __init__(self, features: int, size: int, config: PointsConfig) -> None:
        super().__init__()
        self.config, self.size, self.features = config, size, features
        self.read = nn.Sequential(
            nn.Linear(_INPUTS, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.hidden),
            nn.LayerNorm(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.cells * features),
        )

    def join(self, points: torch.Tensor | None, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """points: (B, 89, 3) or None.  cells: (B, N, C) the picture's.  Returns (B, N + n, C) twice: what mesh and camera are read
        from, and all there is. Raises ValueError for other shapes.
        """
        made, known = self._read(points, cells)
        if not self.config.lead:
            both = torch.cat([cells, made], 1)
            return both, both
        # (B, 1, 1): 1 where face and hand were found
        found = known[:, :FACE_KEYPOINTS].amax(1, keepdim=True) * known[:, FACE_KEYPOINTS:].amax(1, keepdim=True)
        return torch.cat([cells * (1 - found), made], 1), torch.cat([cells, made], 1)

    def forward(self, points: torch.Tensor | None, cells: torch.Tensor) -> torch.Tensor:
        """points: (B, 89, 3) or None.  cells: the picture's own, for batch, dtype and device. -> (B, n, C).

        Raises ValueError for other shapes.
        """
        return self._read(points, cells)[0]

    def _read(self, points: torch.Tensor | None, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Point cells, and which points are known, (B, 89, 1) 0 or 1; while training those that were not withheld."""
        if points is None:
            points = cells.new_zeros(len(cells), KEYPOINTS, 3)
        if points.shape != (len(cells), KEYPOINTS, 3):
            raise ValueError(f"points have shape {tuple(points.shape)}, expected ({len(cells)}, {KEYPOINTS}, 3)")
        known = (points[..., 2:] > 0).to(cells.dtype)
        places = torch.where(known > 0, points[..., :2].to(cells.dtype) / (self.size - 1) * 2 - 1, 0.0)
        if self.training:
            places, known = self._disturb(places, known)
        # not unflatten, which fixes the batch size in exported files
        return self.read(describe(places, known)).reshape(-1, self.config.cells, self.features), known

    def _disturb(self, places: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points as a detector might have found them: each a little off, each part a little off as a whole, some missing."""
        config, one = self.config, places[:, :1, :1]  # (B, 1, 1)
        amount = torch.rand_like(one) * 2 * config.jitter  # some pictures are easy for a detector
        wide = torch.cat([one.new_full((FACE_KEYPOINTS, 1), config.face), one.new_ones(HAND_KEYPOINTS, 1)])
        face, hand = torch.randn_like(one.expand(-1, 1, 4)).split(2, 2)
        whole = torch.cat([face.expand(-1, FACE_KEYPOINTS, -1), hand.expand(-1, HAND_KEYPOINTS, -1)], 1)
        places = places + amount * wide * (whole + torch.randn_like(places))
        lost = torch.rand_like(one[:, 0].expand(-1, 3)) < config.drop
        kept_face, kept_hand = ~(lost[:, :1] | lost[:, 1:2]), ~(lost[:, :1] | lost[:, 2:])
        kept = torch.cat([kept_face.expand(-1, FACE_KEYPOINTS), kept_hand.expand(-1, HAND_KEYPOINTS)], 1)[..., None]
        return places * kept, known * kept


def describe(places: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """What a perceptron is told about points: where they are in the picture, all about the face in sizes of the face, the hand's about
    the hand in sizes of the hand, and both places and sizes. places: (B, 89, 2), known: (B, 89, 1) 0 or 1. -> (B, N).

    How a hand is bent and where it is at the face does not depend on how large both are in the picture; this way nobody needs to
    learn that.
    """
    face, face_middle, face_size = _about_own(places[:, :FACE_KEYPOINTS], known[:, :FACE_KEYPOINTS])
    hand, hand_middle, hand_size = _about_own(places[:, FACE_KEYPOINTS:], known[:, FACE_KEYPOINTS:])
    at_face = (
        (places[:, FACE_KEYPOINTS:] - face_middle)
        / face_size
        * known[:, FACE_KEYPOINTS:]
        * known[:, :FACE_KEYPOINTS].amax(1, keepdim=True)
    )
    parts = [places * known, known, face, at_face.clamp(-_FAR, _FAR), hand]
    parts += [face_middle, face_size.log(), hand_middle, hand_size.log()]
    return torch.cat([part.flatten(1) for part in parts], 1)


def _about_own(places: torch.Tensor, known: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Points about their mean in sizes of their spread, (B, K, 2); mean, (B, 1, 2), and spread, (B, 1, 1); 0 and 1 without points."""
    count = known.sum(1, keepdim=True)
    middle = (places * known).sum(1, keepdim=True) / count.clamp(min=1)
    away = (places - middle) * known
    size = (away.square().sum((1, 2), keepdim=True) / count.clamp(min=1)).sqrt()
    size = torch.where(count > 1, size.clamp(min=1e-2), 1.0)
    return (away / size).clamp(-_FAR, _FAR), middle, size
