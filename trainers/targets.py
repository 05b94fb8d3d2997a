"""Labels and predictions in the form that losses compare: meshes in camera axes, centred alike. On the device, never on the host.

    truth = make_targets(batch, bodies)      # no gradient
    posed = pose_output(output, bodies)      # with gradient

**The origin.** Camera axes, metres, x right, y down, z forward; every group of points is given relative to the mean of its own
UNDEFORMED head vertices, and the hand takes the head's origin, so that hand-to-head errors count and distance to the camera does
not. (DICE takes the DEFORMED head's mean for the truth and the undeformed one for predictions, so that even a perfect prediction
is off by the mean deformation, about 0.1 mm; `Faults.centring` brings that back.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from handface.model.network.output import DiceOutput, PartOutput
from handface.trainers.batch import Batch
from handface.trainers.bodies import Bodies, at_levels, pose_body
from handface.trainers.regressor import KeypointReader


@dataclass(frozen=True)
class PartTargets:
    """True hand or head. Per-level tuples are finest level first.

    vertices: levels of (B, V_l, 3), the head undeformed.  keypoints: (B, K, 3).  contact: levels of (B, V_l), 0 or 1.
    betas: (B, S).  expression: (B, E).  pose: (B, P), what is supervised of it: all of the hand's, the head's joints that the network turns.
    """

    vertices: tuple[torch.Tensor, ...]
    keypoints: torch.Tensor
    contact: tuple[torch.Tensor, ...]
    betas: torch.Tensor
    expression: torch.Tensor
    pose: torch.Tensor


@dataclass(frozen=True)
class Targets:
    """Everything a loss may compare with; arbitrary finite numbers where a mask says that the label is not there.

    deformation: levels of (B, V_l, 3) metres, camera axes, to be SUBTRACTED from the head: -R d of the labels' d.
    presence: (B,) 1 if hand or head has any contact.  face_keypoints_2d: (B, 68, 3), hand_keypoints_2d: (B, 21, 3) pixels and
    confidence.  visibility: (B, 89).  depth: (B, 89, 2) value, validity.  depth_kind: (B,).
    image_size: side S of the pictures in pixels.  has_mesh, has_contact, has_deformation: (B,) bool.
    """

    hand: PartTargets
    head: PartTargets
    deformation: tuple[torch.Tensor, ...]
    presence: torch.Tensor
    face_keypoints_2d: torch.Tensor
    hand_keypoints_2d: torch.Tensor
    visibility: torch.Tensor
    depth: torch.Tensor
    depth_kind: torch.Tensor
    image_size: int
    has_mesh: torch.Tensor
    has_contact: torch.Tensor
    has_deformation: torch.Tensor


@torch.no_grad()
def make_targets(batch: Batch, bodies: Bodies) -> Targets:
    """Labels of a batch as targets, on the batch's device.

    A coarse vertex has the contact of the full mesh's vertex that it is: the mesh sampler selects vertices, it does not pool.
    """
    with torch.autocast(batch.images.device.type, enabled=False):
        hand = pose_body(bodies.hand, batch.hand)
        vertices, keypoints, turn = _pose_head(batch, bodies)
        origin = vertices.mean(1, keepdim=True)
        deformation = -(batch.head_deformation.to(turn) @ turn.mT)
        contact = {"hand": batch.hand_contact.to(turn), "head": batch.head_contact.to(turn)}
    return Targets(
        hand=PartTargets(
            at_levels(bodies.hand, hand.vertices - origin),
            hand.keypoints - origin,
            at_levels(bodies.hand, contact["hand"]),
            batch.hand.betas,
            batch.hand.expression,
            batch.hand.pose[:, : bodies.hand.num_pose],
        ),
        head=PartTargets(
            at_levels(bodies.head, vertices - origin),
            keypoints - origin,
            at_levels(bodies.head, contact["head"]),
            batch.head.betas,
            batch.head.expression,
            bodies.true_head_pose(batch.head, batch.decaf_head),
        ),
        deformation=at_levels(bodies.head, deformation),
        presence=torch.maximum(contact["hand"].amax(1), contact["head"].amax(1)),
        face_keypoints_2d=batch.face_keypoints_2d,
        hand_keypoints_2d=batch.hand_keypoints_2d,
        visibility=batch.visibility,
        depth=batch.keypoint_depth,
        depth_kind=batch.depth_kind,
        image_size=batch.images.shape[-1],
        has_mesh=batch.has_mesh,
        has_contact=batch.has_contact,
        has_deformation=batch.has_deformation,
    )


def _pose_head(batch: Batch, bodies: Bodies) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vertices (B, V, 3), keypoints (B, K, 3) and rotation (B, 3, 3) of the labels' heads, each in its own convention."""
    chosen = batch.decaf_head
    if chosen.device.type == "cpu" and bool((chosen == chosen[:1]).all()):
        # asking costs nothing here, and one convention is the rule
        posed = pose_body(bodies.head_decaf if bool(chosen[:1].any()) else bodies.head_plain, batch.head)
        return posed.vertices, posed.keypoints, posed.rigid[:, :3, :3]
    plain, decaf = pose_body(bodies.head_plain, batch.head), pose_body(bodies.head_decaf, batch.head)
    chosen = chosen[:, None, None]
    return (
        torch.where(chosen, decaf.vertices, plain.vertices),
        torch.where(chosen, decaf.keypoints, plain.keypoints),
        torch.where(chosen, decaf.rigid[:, :3, :3], plain.rigid[:, :3, :3]),
    )


@dataclass(frozen=True)
class PosedPart:
    """Predicted hand or head. NP: drawn by the network itself; P: the body posed by predicted parameters.

    np_vertices: levels of (B, V_l, 3).  np_keypoints: (B, K, 3) the network's keypoint tokens.  np_regressed: (B, K, 3) keypoints
    read off np_vertices.  vertices: (B, V, 3) and keypoints: (B, K, 3) are P.  The head is undeformed in all of them.
    *_pixels: (B, K, 2), the same keypoints in the network's input.
    pose: (B, P), what is supervised of it: all of the hand's, the head's joints that the network turns.
    """

    np_vertices: tuple[torch.Tensor, ...]
    np_keypoints: torch.Tensor
    np_regressed: torch.Tensor
    vertices: torch.Tensor
    keypoints: torch.Tensor
    np_keypoints_pixels: torch.Tensor
    np_regressed_pixels: torch.Tensor
    keypoints_pixels: torch.Tensor
    pose: torch.Tensor


@dataclass(frozen=True)
class PosedTargets:
    """A prediction, centred as the targets are. camera: (B, 3) s, tx, ty for these centred points unless the camera's origin is the
    world's.  deformed: (B, Vf, 3), P head minus the predicted deformation.
    """

    hand: PosedPart
    head: PosedPart
    deformed: torch.Tensor
    camera: torch.Tensor


def pose_output(output: DiceOutput, bodies: Bodies) -> PosedTargets:
    """What losses need of a prediction, in float32 or wider. NP points are relative to the NP head's mean, P to the P head's."""
    with torch.autocast(output.camera.device.type, enabled=False):
        output = widen(output)
        np_origin = output.head.vertices[0].mean(1, keepdim=True)
        head = pose_body(bodies.head, output.head.parameters)
        hand = pose_body(bodies.hand, output.hand.parameters)
        origin = head.vertices.mean(1, keepdim=True)
        world = bodies.camera_origin == "world"

        def project(points: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
            placed = points + removed if world else points
            return output.camera[:, None, :1] * placed[..., :2] + output.camera[:, None, 1:]

        def part(drawn: PartOutput, posed, read: KeypointReader, pose: torch.Tensor) -> PosedPart:  # type: ignore[no-untyped-def]
            np_vertices = tuple(level - np_origin for level in drawn.vertices)
            np_keypoints = drawn.keypoints - np_origin
            np_regressed = read(np_vertices[0])
            keypoints = posed.keypoints - origin
            return PosedPart(
                np_vertices,
                np_keypoints,
                np_regressed,
                posed.vertices - origin,
                keypoints,
                project(np_keypoints, np_origin),
                project(np_regressed, np_origin),
                project(keypoints, origin),
                pose,
            )

        posed_head = part(output.head, head, bodies.read_head, bodies.head_pose(output.head.parameters.pose))
        return PosedTargets(
            hand=part(output.hand, hand, bodies.read_hand, output.hand.parameters.pose),
            head=posed_head,
            deformed=posed_head.vertices - output.head.deformation[0],
            camera=output.camera,
        )


def widen(output: DiceOutput) -> DiceOutput:
    """The same prediction with bf16 and fp16 tensors as float32."""
    narrow = (torch.bfloat16, torch.float16)
    return DiceOutput.unflatten({k: v.float() if v.dtype in narrow else v for k, v in output.flatten().items()})
