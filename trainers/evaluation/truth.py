"""Labels as meshes: what predictions are compared with."""

from __future__ import annotations

import torch

from handface.model.bodies import ParametricBody
from handface.model.network.topology import Sizes
from handface.trainers.batch import Batch
from handface.trainers.bodies import Bodies
from handface.trainers.metrics.meshes import Meshes
from handface.trainers.targets import make_targets


class LabelMeshes:
    """Poses the labelled parameters of a batch with the network's own bodies. Callable: Batch -> Meshes, on the batch's device."""

    def __init__(self, sizes: Sizes, device: torch.device | str = "cpu") -> None:
        """sizes: which bodies and conventions the network has. Raises BodyFileError."""
        self.bodies = Bodies(sizes.hand.load(), sizes.head.load()).to(device)

    @property
    def hand(self) -> ParametricBody:
        """The network's hand."""
        return self.bodies.hand

    @property
    def head(self) -> ParametricBody:
        """The network's head."""
        return self.bodies.head

    def __call__(self, batch: Batch) -> Meshes:
        """Of samples without 3D labels, the rest pose."""
        truth = make_targets(batch, self.bodies)
        return Meshes(
            hand=truth.hand.vertices[0],
            head=truth.head.vertices[0],
            deformation=truth.deformation[0],
            keypoints=torch.cat([truth.head.keypoints, truth.hand.keypoints], 1),
            hand_contact=truth.hand.contact[0],
            head_contact=truth.head.contact[0],
            presence=truth.presence,
        )
