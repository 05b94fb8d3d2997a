"""The hand and the head that labels and predictions are posed with inside the step, on the device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from handface.model.bodies import DECAF, SMPLX, ParametricBody
from handface.model.network.config import DiceConfig
from handface.model.network.heads import BodyParameters
from handface.trainers.batch import BodyLabels
from handface.trainers.regressor import KeypointReader


class Bodies(nn.Module):
    """Bodies of one network, and the head in the two conventions that labels come in.

    hand, head: in the network's convention, as its parameters are meant.  head_plain, head_decaf: the same head as labels mean it
    (every joint but the root turns, about the root joint; Decaf: root and jaw, about the centroid).
    read_hand, read_head: keypoints from vertices; paper_released: the hand's as the released script reads them (`released_regressor`).
    camera_origin: as in the network's `CameraConfig`.
    Everything is a constant: keep it out of checkpoints and optimizers.
    """

    def __init__(
        self,
        hand: ParametricBody,
        head: ParametricBody,
        camera_origin: Literal["head_mean", "world"] = "head_mean",
        paper_released: bool = False,
    ) -> None:
        super().__init__()
        self.hand, self.head, self.camera_origin = hand, head, camera_origin
        self.head_plain = ParametricBody(head.arrays, SMPLX, head.dtype)
        self.head_decaf = ParametricBody(head.arrays, DECAF["head"], head.dtype)
        self.read_hand, self.read_head = KeypointReader(hand, paper_released), KeypointReader(head)
        self.requires_grad_(False)

    @classmethod
    def of(cls, config: DiceConfig, paper_released: bool = False) -> Bodies:
        """The bodies a network was made for. Raises BodyFileError or ValueError."""
        hand, head = config.sizes.hand, config.sizes.head
        return cls(hand.load(), head.load(), config.camera.origin, paper_released)

    def head_pose(self, pose: torch.Tensor) -> torch.Tensor:
        """What is supervised of the head's predicted pose, (B, P) -> (B, 3 J): its joints but for a second root rotation."""
        return torch.cat([_columns(pose, self.head, joint) for joint in self._posed], 1)

    def true_head_pose(self, labels: BodyLabels, decaf: torch.Tensor) -> torch.Tensor:
        """The same in labels of either convention, (B, 3 J). Joints that Decaf's do not turn are at rest in them. decaf: (B,) bool."""
        joints = []
        for joint in self._posed:
            plain = _columns(labels.pose, self.head_plain, joint)
            turned = joint in self.head_decaf.pose_joints
            other = _columns(labels.pose, self.head_decaf, joint) if turned else torch.zeros_like(plain)
            joints.append(torch.where(decaf[:, None], other, plain))
        return torch.cat(joints, 1)

    @property
    def _posed(self) -> list[int]:
        return [joint for joint in self.head.pose_joints if joint != 0]


def pose_body(body: ParametricBody, parameters: BodyParameters | BodyLabels):  # type: ignore[no-untyped-def]
    """Vertices, keypoints and rigid motion, a `BodyOutput`. The pose may be wider than the body's; the rest is dropped."""
    return body(
        betas=parameters.betas,
        pose=parameters.pose[:, : body.num_pose],
        global_orient=parameters.global_orient,
        transl=parameters.transl,
        expression=parameters.expression if body.arrays.num_expressions else None,
    )


def at_levels(body: ParametricBody, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Values per vertex at every mesh level, finest first: (B, V, ...) -> (B, V_l, ...). Coarse vertices are chosen ones."""
    return (values, *(values[:, level.keep] for level in body.levels))  # type: ignore[index]


def _columns(pose: torch.Tensor, head: ParametricBody, joint: int) -> torch.Tensor:
    first = 3 * head.pose_joints.index(joint)
    return pose[:, first : first + 3]
