"""Bodies in the mirror x -> -x: the left hand from the right one, and a head with its two sides exchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from handface.model.bodies.arrays import BodyArrays, Floats, Integers, KeypointSet
from handface.model.bodies.rotation import mirror_axis_angle

_FLIP = np.array([-1.0, 1.0, 1.0])
_AXIAL = np.array([1.0, -1.0, -1.0])


def mirror_arrays(arrays: BodyArrays) -> BodyArrays:
    """The mirrored body with the same vertex numbers; triangles are turned over so that normals still point out.

    Posing it with `mirror_axis_angle` of every rotation and x-negated `transl` gives the mirror image of the original.
    """

    def flip(points: Floats) -> Floats:  # (N, 3, ...)
        sign = _FLIP.reshape((3,) + (1,) * (points.ndim - 2)).astype(points.dtype)
        return points * sign

    def turn_over(faces: Integers) -> Integers:
        return faces[:, [0, 2, 1]]

    def axial(rotations: Floats | None) -> Floats | None:  # (..., 3 n)
        return (
            None if rotations is None else rotations * np.tile(_AXIAL, rotations.shape[-1] // 3).astype(rotations.dtype)
        )

    # the feature of M R M at (row i, column k) is sign_i sign_k times that of R
    feature_sign = np.tile(np.outer(_FLIP, _FLIP).ravel(), arrays.posedirs.shape[2] // 9).astype(arrays.posedirs.dtype)
    points = {
        name: KeypointSet(part.bone, flip(part.template), flip(part.shapedirs), part.vertices, part.weights)
        for name, part in arrays.keypoint_sets.items()
    }
    return replace(
        arrays,
        template=flip(arrays.template),
        faces=turn_over(arrays.faces),
        face_uv=None if arrays.face_uv is None else turn_over(arrays.face_uv),
        shapedirs=flip(arrays.shapedirs),
        expressiondirs=flip(arrays.expressiondirs),
        posedirs=flip(arrays.posedirs) * feature_sign,
        joint_template=flip(arrays.joint_template),
        joint_shapedirs=flip(arrays.joint_shapedirs),
        joint_expressiondirs=flip(arrays.joint_expressiondirs),
        keypoint_sets=points,
        pose_mean=axial(arrays.pose_mean),
        pose_components=axial(arrays.pose_components),
        flexion_axes=axial(arrays.flexion_axes),
        rings={name: ring[::-1].copy() for name, ring in arrays.rings.items()},
        caps=turn_over(arrays.caps),
        levels=tuple(replace(level, faces=turn_over(level.faces)) for level in arrays.levels),
    )


def mirror_head_parameters(
    arrays: BodyArrays, betas: torch.Tensor, expression: torch.Tensor, pose: torch.Tensor, pose_joints: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Parameters of the mirror image of a head. betas: (B, S).  expression: (B, E).  pose: (B, 3 n) of `pose_joints` (n).

    Vertex v of the result is the mirror image of vertex `arrays.mirror.vertices[v]` of the original.
    Raises ValueError if the shape basis is not split into symmetric and antisymmetric parts (FLAME's is not).
    """
    mirror = arrays.mirror
    if mirror is None or mirror.betas is None or mirror.expression is None:
        raise ValueError("this body has no mirror signs for its shape coefficients; mirror its vertices instead")
    order = [pose_joints.index(int(mirror.joints[joint])) for joint in pose_joints]
    turned = mirror_axis_angle(pose).unflatten(1, (-1, 3))[:, order].flatten(1)
    signs = torch.from_numpy(np.asarray(mirror.betas)).to(betas)
    return betas * signs[: betas.shape[1]], expression[:, mirror.expression.astype(np.int64)], turned
