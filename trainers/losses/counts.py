"""How many samples of a batch have the label that a loss needs, known before the network has seen them."""

from __future__ import annotations

import torch

from handface.trainers.batch import Batch
from handface.trainers.losses.config import DepthLossConfig
from handface.trainers.losses.depth import depth_term


def label_counts(batch: Batch, depth: DepthLossConfig = DepthLossConfig()) -> dict[str, torch.Tensor]:
    """{term: number of samples that count, scalar}.

    Touch is missing: there the prediction alone decides. For depth it decides, too, but only where the surface is not met at some
    keypoint; such a sample counts here, so that the mean does not depend on what a network predicts.
    """
    mesh, contact, deformation = batch.has_mesh.sum(), batch.has_contact.sum(), batch.has_deformation.sum()
    hand = (batch.hand_keypoints_2d[..., 2] > 0).any(1).sum()
    head = (batch.face_keypoints_2d[..., 2] > 0).any(1).sum()
    reference, valid = batch.keypoint_depth.unbind(-1)
    use = (valid > 0) & (batch.visibility > 0)
    deep = depth_term(torch.zeros_like(reference), reference, batch.depth_kind, use, depth).mask
    counts = {
        "vertices": mesh,
        "vertices_parametric": mesh,
        "keypoints_3d": mesh,
        "keypoints_3d_parametric": mesh,
        "keypoints_2d_hand": hand,
        "keypoints_2d_hand_parametric": hand,
        "keypoints_2d_head": head,
        "keypoints_2d_head_parametric": head,
        "parameters": mesh,
        "contact": contact,
        "presence": contact,
        "deformation": deformation,
        "deformation_wild": len(batch) - deformation,
        "depth": (deep if depth.samples == "all" else deep & ~batch.has_mesh).sum(),
        "collision": torch.full_like(mesh, len(batch)),
    }
    return {name: count.float() for name, count in counts.items()}
