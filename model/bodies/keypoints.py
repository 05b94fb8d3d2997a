"""Keypoints of a posed body: points on bones and points on the surface."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from handface.model.bodies.arrays import KeypointSet

_HAND_TIPS, _HAND_LAST_JOINTS = (4, 8, 12, 16, 20), (3, 7, 11, 15, 19)  # in MediaPipe's order


class Keypoints(nn.Module):
    """Evaluates a `KeypointSet`. `tip_length` other than 1 needs the 21 points of a hand."""

    bone: torch.Tensor
    on_bone: torch.Tensor
    template: torch.Tensor
    shapedirs: torch.Tensor
    corners: torch.Tensor
    weights: torch.Tensor

    def __init__(self, points: KeypointSet, tip_length: float, dtype: torch.dtype) -> None:
        super().__init__()
        if tip_length != 1 and len(points.bone) != 21:
            raise ValueError(f"tip_length is for the 21 keypoints of a hand; this set has {len(points.bone)}")
        self.tip_length = tip_length
        self.register_buffer("bone", torch.from_numpy(np.maximum(points.bone, 0).astype(np.int64)))
        self.register_buffer("on_bone", torch.from_numpy(points.bone >= 0))
        self.register_buffer("template", torch.tensor(points.template, dtype=dtype))
        self.register_buffer("shapedirs", torch.tensor(points.shapedirs, dtype=dtype))
        self.register_buffer("corners", torch.from_numpy(points.vertices.astype(np.int64)))
        weights = np.asarray(points.weights, np.float64)
        total = weights.sum(
            1, keepdims=True
        )  # stored in single precision; 1 to the last bit keeps points rigid far from 0
        self.register_buffer("weights", torch.from_numpy(weights / np.where(total == 0, 1, total)).to(dtype))

    def forward(self, betas: torch.Tensor, vertices: torch.Tensor, transforms: torch.Tensor) -> torch.Tensor:
        """(B, K, 3) from betas (B, S), posed vertices (B, V, 3) and the joints' rest-to-posed transforms (B, J, 4, 4)."""
        surface = (vertices[:, self.corners] * self.weights[..., None]).sum(2)
        rest = self.template + torch.einsum("bs,kcs->bkc", betas, self.shapedirs[..., : betas.shape[1]])
        bone = transforms[:, self.bone]
        rigid = torch.einsum("bkij,bkj->bki", bone[..., :3, :3], rest) + bone[..., :3, 3]
        points = torch.where(self.on_bone[:, None], rigid, surface)
        return points if self.tip_length == 1 else self._shorten(points)

    def _shorten(self, points: torch.Tensor) -> torch.Tensor:
        last = points[:, _HAND_LAST_JOINTS, :]
        tips = last + self.tip_length * (points[:, _HAND_TIPS, :] - last)
        return points.index_copy(1, torch.tensor(_HAND_TIPS, device=points.device), tips)
