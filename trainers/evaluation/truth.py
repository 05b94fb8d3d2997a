"""Labels as meshes: what predictions are compared with."""

from __future__ import annotations

from dataclasses import replace

import torch

from model.bodies import DECAF, SMPLX, load_body
from model.topology import Sizes
from trainers.batch import Batch
from trainers.metrics.meshes import Meshes


class LabelMeshes:
    """Poses the labelled parameters of a batch with the network's own bodies. Callable: Batch -> Meshes, on the batch's device."""

    def __init__(self, sizes: Sizes, device: torch.device | str = "cpu") -> None:
        """sizes: which bodies and conventions the network has. Raises BodyFileError."""
        self.hand = load_body(sizes.hand.body, sizes.hand.convention).to(device)
        # Heads in Decaf's convention turn about their centroid and have another pose vector than all others.
        keypoints = load_body(sizes.head.body, sizes.head.convention).convention.keypoints
        self.head = load_body(sizes.head.body, replace(SMPLX, keypoints=keypoints)).to(device)
        self.decaf_head = load_body(sizes.head.body, replace(DECAF["head"], keypoints=keypoints)).to(device)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Meshes:
        """Of samples without 3D labels, the rest pose."""
        hand = self.hand(batch.hand.betas, batch.hand.pose, batch.hand.global_orient, batch.hand.transl)
        head, keypoints, rigid = self._head(batch)
        deformation = -torch.einsum("bij,bvj->bvi", rigid[:, :3, :3], batch.head_deformation)
        touching = batch.hand_contact.amax(1).maximum(batch.head_contact.amax(1))
        return Meshes(
            hand=hand.vertices,
            head=head,
            deformation=deformation,
            keypoints=torch.cat([keypoints, hand.keypoints], 1),
            hand_contact=batch.hand_contact,
            head_contact=batch.head_contact,
            presence=touching,
        )

    def _head(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Vertices (B, V, 3), keypoints (B, 68, 3) and rigid motion (B, 4, 4), each sample in its own convention."""
        labels, found = batch.head, []
        for body, rows in ((self.head, ~batch.decaf_head), (self.decaf_head, batch.decaf_head)):
            if not bool(rows.any()):
                continue
            pose = labels.pose[rows][:, : body.num_pose]
            expression = labels.expression[rows] if labels.expression.shape[1] else None
            out = body(labels.betas[rows], pose, labels.global_orient[rows], labels.transl[rows], expression)
            found.append((rows, out.vertices, out.keypoints, out.rigid))
        if len(found) == 1:
            return found[0][1:]
        merged = []
        for part in range(1, 4):
            whole = found[0][part].new_empty(len(batch), *found[0][part].shape[1:])
            for piece in found:
                whole[piece[0]] = piece[part]
            merged.append(whole)
        return merged[0], merged[1], merged[2]
