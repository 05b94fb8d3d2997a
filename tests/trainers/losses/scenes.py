"""Batches with exact labels, and the prediction that is right about all of them."""

from __future__ import annotations

from dataclasses import replace

import torch

from handface.model.network.heads import BodyParameters
from handface.model.network.output import DiceOutput, PartOutput
from handface.pipeline.contract.sample import DEPTH_KINDS
from handface.trainers.batch import Batch, BodyLabels
from handface.trainers.bodies import Bodies
from handface.trainers.targets import make_targets

SIZE = 128
CAMERA = (420.0, 60.0, 70.0)  # pixels per metre, pixels


def make_batch(bodies: Bodies, count: int = 3, seed: int = 0, decaf: bool = False) -> Batch:
    """Random hands near random heads; everything labelled, keypoints and depth of the kind `metric` from the bodies themselves."""
    g = torch.Generator().manual_seed(seed)

    def normal(width: int, scale: float) -> torch.Tensor:
        return scale * torch.randn(count, width, generator=g)

    hand_arrays, head_arrays = bodies.hand.arrays, bodies.head.arrays
    place = torch.tensor([[0.02, 0.05, 0.55]])
    jaw = torch.zeros(count, 3 * (len(head_arrays.parents) - 1))
    jaw[:, 3:6] = normal(3, 0.05)  # the jaw's columns in either convention
    jaw[:, :3] = normal(3, 0.1)
    head = BodyLabels(normal(head_arrays.num_betas, 0.3), normal(head_arrays.num_expressions, 0.1).abs(), jaw,
                      normal(3, 0.3), place + normal(3, 0.02))  # fmt: skip
    hand = BodyLabels(normal(hand_arrays.num_betas, 0.5), torch.zeros(count, 0), normal(bodies.hand.num_pose, 0.15),
                      normal(3, 0.8), place + torch.tensor([[0.0, 0.0, -0.1]]) + normal(3, 0.02))  # fmt: skip
    dents = torch.zeros(count, bodies.head.num_vertices, 3)
    dents[:, :200] = 0.004 * torch.randn(count, 200, 3, generator=g)
    yes = torch.ones(count, dtype=torch.bool)
    batch = Batch(
        keys=tuple(f"{i:016x}" for i in range(count)),
        origins=torch.zeros(count, dtype=torch.int64),
        images=torch.zeros(count, 3, SIZE, SIZE, dtype=torch.uint8),
        face_keypoints_2d=torch.zeros(count, 68, 3),
        hand_keypoints_2d=torch.zeros(count, 21, 3),
        points=torch.zeros(count, 89, 3),
        visibility=torch.ones(count, 89),
        keypoint_depth=torch.zeros(count, 89, 2),
        depth_kind=torch.full((count,), DEPTH_KINDS.index("metric")),
        hand=hand,
        head=head,
        hand_contact=(torch.rand(count, bodies.hand.num_vertices, generator=g) < 0.05).float(),
        head_contact=(torch.rand(count, bodies.head.num_vertices, generator=g) < 0.02).float(),
        head_deformation=dents,
        decaf_head=torch.full((count,), decaf),
        has_mesh=yes,
        has_contact=yes,
        has_deformation=yes,
    )
    truth = make_targets(batch, bodies)
    points = torch.cat([truth.head.keypoints, truth.hand.keypoints], 1)
    pixels = CAMERA[0] * points[..., :2] + torch.tensor(CAMERA[1:])
    labels = torch.cat([pixels, torch.ones(count, 89, 1)], -1)
    depth = torch.stack([points[..., 2] + 1, torch.ones(count, 89)], -1)
    return replace(batch, face_keypoints_2d=labels[:, :68], hand_keypoints_2d=labels[:, 68:], keypoint_depth=depth)


def perfect(batch: Batch, bodies: Bodies, network_head: BodyLabels | None = None) -> DiceOutput:
    """The prediction that is right. network_head: head parameters in the network's convention; None: those of the labels."""
    truth = make_targets(batch, bodies)
    head = network_head or batch.head
    sure = 30.0

    def part(true, labels: BodyLabels, pose: int, deformation: tuple[torch.Tensor, ...]) -> PartOutput:  # type: ignore[no-untyped-def]
        return PartOutput(
            keypoints=true.keypoints.clone(),
            vertices=tuple(level.clone() for level in true.vertices),
            contact_logits=tuple(sure * (2 * level - 1) for level in true.contact),
            deformation=tuple(level.clone() for level in deformation),
            parameters=BodyParameters(
                labels.betas.clone(), labels.expression.clone(), labels.pose[:, :pose].clone(),
                labels.global_orient.clone(), labels.transl.clone(),
            ),
        )  # fmt: skip

    count = len(batch)
    return DiceOutput(
        hand=part(truth.hand, batch.hand, bodies.hand.num_pose, ()),
        head=part(truth.head, head, bodies.head.num_pose, truth.deformation),
        camera=torch.tensor([CAMERA]).repeat(count, 1),
        camera_origin=truth.head.vertices[0].mean(1),
        presence_logit=sure * (2 * truth.presence - 1),
    )


def noisy(output: DiceOutput, scale: float = 0.01, seed: int = 1) -> DiceOutput:
    """The same with noise on everything but the camera's origin, as leaves that ask for a gradient."""
    g = torch.Generator().manual_seed(seed)
    flat = {}
    for name, value in output.flatten().items():
        noise = scale * torch.randn(value.shape, generator=g).to(value)
        flat[name] = (value + noise * (100 if "logit" in name else 1)).detach().requires_grad_(True)
    return DiceOutput.unflatten(flat)
