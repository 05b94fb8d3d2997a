"""How far vertices and keypoints are from where they should be: PVE*, MPJPE, PA-MPJPE, deformation error. Metres."""

from __future__ import annotations

import torch

from handface.trainers.metrics.meshes import Meshes

LARGE = 0.005  # metres: a true deformation above this counts as large


def distances(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """|a - b| along the last axis. (..., 3) -> (...)."""
    return (points - target).norm(dim=-1)


def align_similarity(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The points moved, turned and scaled onto the target in least squares, without reflection. (B, K, 3) -> (B, K, 3).

    s, R, t = argmin sum |s R x + t - y|^2 (Umeyama 1991). Points that all coincide go to the target's mean.
    """
    x, y = points.double(), target.double()
    x_mean, y_mean = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    x, y = x - x_mean, y - y_mean
    u, scales, v = torch.linalg.svd(x.mT @ y)  # (B, 3, 3): x^T y = u diag(scales) v
    sign = torch.ones_like(scales)
    sign[:, 2] = (torch.linalg.det(u) * torch.linalg.det(v)).sign()
    turn = u @ torch.diag_embed(sign) @ v  # rows: x R
    spread = x.square().sum((1, 2))
    scale = torch.where(spread > 0, (scales * sign).sum(1) / spread.clamp(min=1e-30), 0)
    return (scale[:, None, None] * (x @ turn) + y_mean).to(points.dtype)


def pose_errors(prediction: Meshes, truth: Meshes) -> dict[str, torch.Tensor]:
    """Per sample, metres, (B,) each: {"pve", "pve_head", "pve_hand", "mpjpe", "pa_mpjpe", "pve_same", "mpjpe_same"}.

    The prediction is centred on the mean of its UNDEFORMED head, the truth on that of its DEFORMED head, as the paper's code
    does; the names that end in `_same` centre both on the undeformed head, so that a perfect prediction has no error. Hand and
    head move by the head's offset alike, so that errors of the hand's place at the face count.
    pve: over all deformed head and hand vertices together, hence mostly the head's.  mpjpe: over 68 + 21 keypoints.
    pa_mpjpe: the same after one similarity alignment of all 89.
    """
    here = prediction.head.mean(1, keepdim=True)
    keypoints = prediction.keypoints - here
    found = {}
    for suffix, there in (("", truth.deformed), ("_same", truth.head)):
        origin = there.mean(1, keepdim=True)
        head = distances(prediction.deformed - here, truth.deformed - origin)
        hand = distances(prediction.hand - here, truth.hand - origin)
        found[f"pve{suffix}"] = torch.cat([head, hand], 1).mean(1)
        found[f"mpjpe{suffix}"] = distances(keypoints, truth.keypoints - origin).mean(1)
        if not suffix:
            found |= {"pve_head": head.mean(1), "pve_hand": hand.mean(1)}
    found["pa_mpjpe"] = distances(align_similarity(keypoints, truth.keypoints), truth.keypoints).mean(1)
    return found


def deformation_errors(prediction: Meshes, truth: Meshes) -> dict[str, torch.Tensor]:
    """Per sample, metres: {"deformation": mean |D - D*| over all vertices, "deformation_large": SUM of it over vertices with
    |D*| > 5 mm, "deformation_large_l1": sum of the released code's |dx| + |dy| + |dz| there, "large": their count}, each (B,).
    """
    difference = prediction.deformation - truth.deformation
    error = difference.norm(dim=-1)
    large = (truth.deformation.norm(dim=-1) > LARGE).to(error.dtype)
    return {
        "deformation": error.mean(1),
        "deformation_large": (error * large).sum(1),
        "deformation_large_l1": (difference.abs().sum(-1) * large).sum(1),
        "large": large.sum(1),
    }
