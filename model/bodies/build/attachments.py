"""Forearm for the hand; bust, teeth and tongue for the head: static meshes that meet the body's open ring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from handface.model.bodies.arrays import BodyArrays
from handface.model.bodies.attachment import AttachmentArrays
from handface.model.bodies.build.hand import hand_quads
from handface.model.bodies.build.head import head_quads
from handface.model.bodies.build.region import SurfaceRegion, cut, part_of_quads
from handface.model.bodies.build.shapes import Macros, Probe, rigid_align
from handface.model.bodies.build.wheel import HumanData

_FOREARM_BONES = ("lowerarm01.R", "lowerarm02.R", "wrist.R")
_REACH = {"forearm": 0.25, "bust": 0.12}  # metres from the ring over which its displacement fades out
_NEIGHBOURS = 6
_RIGID = 0.8  # of the largest skinning weight found in the cavity
_FRONT_TEETH = 0.016  # metres behind the foremost tooth
_GUMS = 24  # still vertices of the mouth cavity whose mean displacement teeth and tongue follow


def build_forearm(human: HumanData, hand: BodyArrays) -> AttachmentArrays:
    """The right forearm up to the elbow, rigid with the wrist."""
    centre = human.vertices[human.quads].mean(1)
    moved = [v for bone in _FOREARM_BONES for v, weight in human.bone_weights[bone] if weight > 0.3]
    arm = (centre[:, 0] < -0.3) & (human.group == "body") & ~hand_quads(human) & np.isin(human.quads, moved).all(1)
    body = cut(human, hand_quads(human))
    return _on_ring(human, cut(human, arm), body, hand, hand.rings["wrist"], _REACH["forearm"])


def build_bust(human: HumanData, head: BodyArrays) -> AttachmentArrays:
    """Neck and shoulders, still with respect to the root; upper teeth with the skull, lower teeth and tongue with the jaw."""
    centre = human.vertices[human.quads].mean(1)
    box = (centre[:, 1] > 0.25) & (np.abs(centre[:, 0]) < 0.32)
    body = cut(human, head_quads(human))
    skin = box & (human.group == "body") & ~np.isin(part_of_quads(human), ("mouth_cavity",)) & ~head_quads(human)
    teeth = np.isin(human.group, ("helper-upper-teeth", "helper-lower-teeth"))
    front_teeth = centre[teeth, 2].max() - _FRONT_TEETH
    pieces = [_on_ring(human, cut(human, skin), body, head, head.rings["neck"], _REACH["bust"])]
    for name, group, joint in (
        ("upper_teeth", "helper-upper-teeth", 1),
        ("lower_teeth", "helper-lower-teeth", 2),
        ("tongue", "helper-tongue", 2),
    ):
        front = (human.group == group) & (
            (centre[:, 2] > front_teeth) | (name == "tongue")
        )  # molars look like tusks beside an open mouth
        pieces.append(_in_mouth(human, cut(human, front), body, head, joint, name))
    return _merge(pieces)


def _aligned(
    human: HumanData, region: SurfaceRegion, body: SurfaceRegion, arrays: BodyArrays, used: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The average person's region, moved rigidly into the body's rest frame by the body's `used` vertices, (W, 3)."""
    both = [Macros(Probe(human, part, ())).average() for part in (body, region)]
    target = np.concatenate([arrays.template, np.zeros_like(both[1])]).astype(np.float64)
    moved = rigid_align(np.concatenate(both), target, np.concatenate([used, np.zeros(len(both[1]), bool)]))
    return moved[len(both[0]) :]


def _on_ring(
    human: HumanData,
    region: SurfaceRegion,
    body: SurfaceRegion,
    arrays: BodyArrays,
    ring: NDArray[np.integer],
    reach: float,
) -> AttachmentArrays:
    """A piece of skin that shares the body's ring: on it, vertices coincide; away from it, the displacement fades."""
    near_ring = np.linalg.norm(arrays.template - arrays.template[ring].mean(0), axis=1) < 0.06
    points = _aligned(human, region, body, arrays, near_ring)
    ring_points = arrays.template[ring].astype(np.float64)
    average_ring = points[region.local(body.vertex_ids[ring])]
    distance, nearest = cKDTree(average_ring).query(points, k=_NEIGHBOURS)
    weights = 1 / np.maximum(distance, 1e-9) ** 2
    weights[distance[:, 0] < 1e-9, 1:] = 0  # a ring vertex follows itself alone
    weights /= weights.sum(1, keepdims=True)
    fade = np.clip(1 - distance[:, 0] / reach, 0, 1)
    weights *= (fade**2 * (3 - 2 * fade))[:, None]
    template = points + ((ring_points - average_ring)[nearest] * weights[..., None]).sum(1)
    return _arrays(region, template, 0, np.asarray(ring)[nearest], weights, "skin")


def _in_mouth(
    human: HumanData, region: SurfaceRegion, body: SurfaceRegion, arrays: BodyArrays, joint: int, name: str
) -> AttachmentArrays:
    """Something rigid in the mouth, moved with the still part of the cavity around it."""
    points = _aligned(human, region, body, arrays, arrays.weights[:, 1] > 0.5)
    inside = arrays.weights[:, joint] * arrays.masks["cavity"] * (1 - arrays.masks["eyes"])
    candidates = np.flatnonzero(inside > _RIGID * inside.max())
    mobility = np.abs(arrays.expressiondirs[candidates].astype(np.float64)).sum((1, 2))
    distance = np.linalg.norm(arrays.template[candidates] - points.mean(0), axis=1)
    gums = candidates[np.argsort(mobility / mobility.max() + distance / distance.max(), kind="stable")[:_GUMS]]
    follow = np.tile(gums, (len(points), 1))
    return _arrays(region, points, joint, follow, np.full(follow.shape, 1 / follow.shape[1]), name)


def _arrays(
    region: SurfaceRegion,
    template: NDArray[np.float64],
    joint: int,
    follow: NDArray[np.integer],
    weights: NDArray[np.float64],
    name: str,
) -> AttachmentArrays:
    return AttachmentArrays(
        template=template.astype(np.float32),
        faces=region.faces.astype(np.int32),
        uv=region.uv.astype(np.float32),
        face_uv=region.face_uv.astype(np.int32),
        part=np.zeros(len(region.faces), np.int32),
        joint=np.full(len(template), joint, np.int32),
        follow_vertices=follow.astype(np.int32),
        follow_weights=weights.astype(np.float32),
        parts=(name,),
    )


def _merge(pieces: Sequence[AttachmentArrays]) -> AttachmentArrays:
    """One attachment of several pieces, each its own part."""
    width = max(piece.follow_vertices.shape[1] for piece in pieces)

    def padded(values: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.pad(values, ((0, 0), (0, width - values.shape[1])))

    first_vertex = np.cumsum([0] + [len(piece.template) for piece in pieces])
    first_uv = np.cumsum([0] + [len(piece.uv) for piece in pieces])
    return AttachmentArrays(
        template=np.concatenate([piece.template for piece in pieces]),
        faces=np.concatenate([p.faces + n for p, n in zip(pieces, first_vertex, strict=False)]).astype(np.int32),
        uv=np.concatenate([piece.uv for piece in pieces]),
        face_uv=np.concatenate([p.face_uv + n for p, n in zip(pieces, first_uv, strict=False)]).astype(np.int32),
        part=np.concatenate([np.full(len(p.faces), n, np.int32) for n, p in enumerate(pieces)]),
        joint=np.concatenate([piece.joint for piece in pieces]),
        follow_vertices=np.concatenate([padded(piece.follow_vertices) for piece in pieces]),
        follow_weights=np.concatenate([padded(piece.follow_weights) for piece in pieces]),
        parts=tuple(name for piece in pieces for name in piece.parts),
    )
