"""How many samples of a batch have the label that a loss needs, known before the network has seen them."""

from __future__ import annotations

import torch

from handface.trainers.batch import Batch


def label_counts(batch: Batch) -> dict[str, torch.Tensor]:
    """{term: number of samples that count, scalar}. Touch and depth are missing: there the prediction decides, too."""
    mesh, contact, deformation = batch.has_mesh.sum(), batch.has_contact.sum(), batch.has_deformation.sum()
    hand = (batch.hand_keypoints_2d[..., 2] > 0).any(1).sum()
    head = (batch.face_keypoints_2d[..., 2] > 0).any(1).sum()
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
        "collision": torch.full_like(mesh, len(batch)),
    }
    return {name: count.float() for name, count in counts.items()}
