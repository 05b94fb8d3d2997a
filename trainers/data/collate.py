"""Decoded samples -> `Batch`; mirrors and turns the body parameters of the whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.bodies import DECAF
from handface.model.bodies.mirror import mirror_head_parameters
from handface.model.bodies.rotation import mirror_axis_angle
from handface.trainers.batch import Batch, BodyLabels
from handface.trainers.data.augment.geometry import turn_about_camera
from handface.trainers.data.bodies import BodyPart, Parameters
from handface.trainers.data.decode import Decoded
from handface.trainers.data.scene import SceneLabels

_FLIP = torch.tensor([-1.0, 1.0, 1.0])


def collate(samples: Sequence[Decoded], hand: BodyPart, head: BodyPart) -> Batch:
    """B >= 1 samples as one batch on the CPU."""
    has_mesh = torch.tensor([s.scene.hand is not None for s in samples])
    mirrored = torch.tensor([s.mirrored for s in samples])
    angle = np.array([s.angle for s in samples])
    decaf = torch.tensor([s.scene.head is not None and s.scene.head.decaf for s in samples])
    images = torch.from_numpy(np.stack([s.image for s in samples]))  # (B, S, S, 3)
    return Batch(
        keys=tuple(s.key for s in samples),
        origins=torch.tensor([s.origin for s in samples]),
        images=images.permute(0, 3, 1, 2),  # channels last in memory
        face_keypoints_2d=_stacked([s.face for s in samples]),
        hand_keypoints_2d=_stacked([s.hand for s in samples]),
        points=_stacked([s.points for s in samples]),
        visibility=_stacked([s.visibility for s in samples]),
        keypoint_depth=_stacked([s.depth for s in samples]),
        depth_kind=torch.tensor([s.depth_kind for s in samples]),
        hand=_body([s.scene.hand for s in samples], hand, mirrored, has_mesh, angle, torch.zeros_like(decaf)),
        head=_body([s.scene.head for s in samples], head, mirrored, has_mesh, angle, decaf),
        hand_contact=_contact([s.scene.hand_contact for s in samples], hand.vertices),
        head_contact=_contact([s.scene.head_contact for s in samples], head.vertices),
        head_deformation=_deformation([s.scene for s in samples], head.vertices),
        decaf_head=decaf,
        has_mesh=has_mesh,
        has_contact=torch.tensor([s.scene.hand_contact is not None for s in samples]),
        has_deformation=torch.tensor([s.scene.rows is not None for s in samples]),
    )


def _body(
    values: Sequence[Parameters | None],
    part: BodyPart,
    mirrored: torch.Tensor,
    known: torch.Tensor,
    angle: NDArray[np.float64],
    decaf: torch.Tensor,
) -> BodyLabels:
    """The part's parameters as the varied pictures show them."""
    nothing = part.rest()
    rows = [nothing if value is None else value for value in values]
    labels = BodyLabels(
        betas=_stacked([row.betas for row in rows]),
        expression=_stacked([row.expression for row in rows]),
        pose=_stacked([row.pose for row in rows]),
        global_orient=_stacked([row.orient for row in rows]),
        transl=_stacked([row.transl for row in rows]),
    )
    if (chosen := mirrored & known).any():
        labels = _choose(chosen, _mirrored(labels, part, decaf), labels)
    turned = known.numpy() & (angle != 0)
    return _turned(labels, part, np.where(turned, angle, 0), decaf) if turned.any() else labels


def _mirrored(labels: BodyLabels, part: BodyPart, decaf: torch.Tensor) -> BodyLabels:
    """Parameters of the mirror image. Of a left hand this is a right hand with the same shape and vertex numbers."""
    orient, transl = mirror_axis_angle(labels.global_orient), labels.transl * _FLIP
    if part.kind == "hand":
        return BodyLabels(labels.betas, labels.expression, mirror_axis_angle(labels.pose), orient, transl)
    joints = tuple(range(1, len(part.arrays.parents)))
    betas, expression, pose = mirror_head_parameters(part.arrays, labels.betas, labels.expression, labels.pose, joints)
    if decaf.any():
        short = DECAF["head"].pose_joints or ()
        width = 3 * len(short)
        first = mirror_head_parameters(part.arrays, labels.betas, labels.expression, labels.pose[:, :width], short)[2]
        padded = torch.nn.functional.pad(first, (0, pose.shape[1] - width))
        pose = torch.where(decaf[:, None], padded, pose)
    return BodyLabels(betas, expression, pose, orient, transl)


def _turned(labels: BodyLabels, part: BodyPart, angle: NDArray[np.float64], decaf: torch.Tensor) -> BodyLabels:
    """Turned about the camera's z axis, (B,) radians, where that is not 0."""
    pivot = part.pivot(labels.betas, labels.expression, labels.pose, decaf)
    orient, transl = turn_about_camera(
        labels.global_orient.numpy(), labels.transl.numpy(), pivot.numpy(), angle.astype(np.float64)
    )
    turned = BodyLabels(
        labels.betas, labels.expression, labels.pose, torch.from_numpy(orient), torch.from_numpy(transl)
    )
    return _choose(torch.from_numpy(angle != 0), turned, labels)


def _choose(rows: torch.Tensor, one: BodyLabels, other: BodyLabels) -> BodyLabels:
    """`one` where rows (B,) is True, else `other`."""
    where = rows[:, None]
    return BodyLabels(
        betas=torch.where(where, one.betas, other.betas),
        expression=torch.where(where, one.expression, other.expression),
        pose=torch.where(where, one.pose, other.pose),
        global_orient=torch.where(where, one.global_orient, other.global_orient),
        transl=torch.where(where, one.transl, other.transl),
    )


def _stacked(rows: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(rows).astype(np.float32, copy=False))


def _contact(rows: Sequence[NDArray[np.uint8] | None], vertices: int) -> torch.Tensor:
    """(B, V) float 0 or 1."""
    dense = np.zeros((len(rows), vertices), np.float32)
    for out, row in zip(dense, rows, strict=True):
        if row is not None:
            out[:] = row
    return torch.from_numpy(dense)


def _deformation(scenes: Sequence[SceneLabels], vertices: int) -> torch.Tensor:
    """(B, V, 3) from sparse rows."""
    dense = np.zeros((len(scenes), vertices, 3), np.float32)
    for out, scene in zip(dense, scenes, strict=True):
        if scene.rows is not None:
            out[scene.rows] = scene.displacement
    return torch.from_numpy(dense)
