"""L_mesh, keypoints in space and in the picture."""

from __future__ import annotations

import torch

from handface.model.bodies.names import HAND_KEYPOINTS, MEDIAPIPE_FROM_POINTS
from handface.trainers.losses.reduce import l1, masked_mean

RELEASED_HAND_ORDER = tuple(map(MEDIAPIPE_FROM_POINTS.index, range(HAND_KEYPOINTS)))
"""Where each of the released loader's 21 hand joints (wrist; index, middle, little, ring, thumb; tips) is in MediaPipe's order."""


def drawn_keypoints(
    direct: torch.Tensor, regressed: torch.Tensor, true_direct: torch.Tensor, true_regressed: torch.Tensor
) -> torch.Tensor:
    """NP, one part: 4 (L1 of the keypoint tokens + L1 of the points read off the mesh), metres. (B, K, 3) each -> (B,)."""
    return 4 * (l1(direct, true_direct) + l1(regressed, true_regressed))


def keypoints_2d(pixels: torch.Tensor, labels: torch.Tensor, image_size: int) -> torch.Tensor:
    """sum_k c_k mean_xy |u_k - u_k*| / S / sum_k c_k: confidence-weighted L1 in shares of the picture's side S; (B,).

    pixels: (B, K, 2).  labels: (B, K, 3) x, y in pixels and confidence c. 0 where no point has confidence.
    """
    distance = (pixels - labels[..., :2]).abs().mean(-1) / image_size
    return masked_mean(distance, labels[..., 2])


def plain_keypoints_2d(pixels: torch.Tensor, labels: torch.Tensor, image_size: int) -> torch.Tensor:
    """As released: every known point counts alike. Shapes and units as in `keypoints_2d`."""
    known = (labels[..., 2:] > 0).to(labels.dtype)
    return keypoints_2d(pixels, torch.cat([labels[..., :2], known], -1), image_size)
