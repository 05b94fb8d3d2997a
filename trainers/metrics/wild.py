"""What can be measured on a photo without 3D labels: 2D keypoints, the order of keypoints in depth."""

from __future__ import annotations

import torch

from handface.pipeline.contract.sample import DEPTH_KINDS, FACE_KEYPOINTS

MIN_CONFIDENCE = 0.3
"""A labelled keypoint below this is not compared."""
DEPTH_MARGIN = 0.25
"""Pairs whose reference depths differ by less than this many standard deviations of the sample's have no order."""
_INVERSE, _PER_PART = DEPTH_KINDS.index("affine-inverse"), DEPTH_KINDS.index("affine-per-part")


def reprojection(pixels: torch.Tensor, face: torch.Tensor, hand: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mean 2D keypoint error over the size of the labelled face, the root of its keypoints' bounding box' area; (B,) each.

    pixels: (B, 89, 2).  face: (B, 68, 3) and hand: (B, 21, 3) x, y, confidence, same pixels.
    Returns {"reprojection_face", "reprojection_hand", "reprojection"} and for each "_known": 1 where the sample has both a
    face to measure by and points to compare, else 0, and the error is 0.
    """
    labels = torch.cat([face, hand], 1)
    use = labels[..., 2] >= MIN_CONFIDENCE  # (B, 89)
    size = _face_size(face)
    relative = (pixels - labels[..., :2]).norm(dim=-1) / size.clamp(min=1e-6)[:, None]
    found = {}
    whole, first = slice(None), slice(None, FACE_KEYPOINTS)
    for name, part in (("_face", first), ("_hand", slice(FACE_KEYPOINTS, None)), ("", whole)):
        count = use[:, part].sum(1)
        known = (count > 0) & (size > 0)
        mean = torch.where(use[:, part], relative[:, part], 0.0).sum(1) / count.clamp(min=1)
        found[f"reprojection{name}"] = torch.where(known, mean, 0.0)
        found[f"reprojection{name}_known"] = known.float()
    return found


def _face_size(face: torch.Tensor) -> torch.Tensor:
    """(B, 68, 3) -> (B,) pixels; 0 where fewer than half of the points are known."""
    use = face[..., 2:] >= MIN_CONFIDENCE
    low = torch.where(use, face[..., :2], torch.inf).amin(1)
    high = torch.where(use, face[..., :2], -torch.inf).amax(1)
    enough = use[..., 0].sum(1) * 2 >= FACE_KEYPOINTS
    return torch.where(enough, (high - low).prod(1).sqrt(), 0.0)


def depth_order(
    keypoints: torch.Tensor, reference: torch.Tensor, kind: torch.Tensor, visibility: torch.Tensor
) -> dict[str, torch.Tensor]:
    """How many pairs of keypoints are in the reference's order along z; (B,) each.

    keypoints: (B, 89, 3) predicted.  reference: (B, 89, 2) value and validity.  kind: (B,) index into DEPTH_KINDS, -1 for none.
    visibility: (B, 89).  Returns {"order_right", "order_pairs"} over all pairs and the same with "_across", over pairs of a face and
    a hand point; none for depth that is only relative within a part.
    """
    valid = (reference[..., 1] > 0) & (visibility > 0) & (kind >= 0)[:, None]
    far = torch.where((kind == _INVERSE)[:, None], -reference[..., 0], reference[..., 0])
    count = valid.sum(1, keepdim=True).clamp(min=1)
    centred = torch.where(valid, far - torch.where(valid, far, 0.0).sum(1, keepdim=True) / count, 0.0)
    spread = (centred.square().sum(1, keepdim=True) / count).sqrt()
    difference = far[:, :, None] - far[:, None, :]  # (B, 89, 89)
    part = torch.arange(valid.shape[1], device=far.device) < FACE_KEYPOINTS
    across = (part[:, None] != part[None, :]).expand(len(far), -1, -1)
    pairs = valid[:, :, None] & valid[:, None, :] & (difference.abs() > DEPTH_MARGIN * spread[..., None])
    pairs &= torch.ones_like(pairs).triu(1)  # each pair once
    pairs &= ~(across & (kind == _PER_PART)[:, None, None])
    z = keypoints[..., 2]
    right = pairs & ((z[:, :, None] - z[:, None, :]).sign() == difference.sign())
    return {
        "order_right": right.sum((1, 2)).float(),
        "order_pairs": pairs.sum((1, 2)).float(),
        "order_across_right": (right & across).sum((1, 2)).float(),
        "order_across_pairs": (pairs & across).sum((1, 2)).float(),
    }
