"""What a parametric body is made of: the arrays of one file, checked, in numpy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]


class BodyFileError(ValueError):
    """A body file does not hold what it should; the message names file, key and what was expected."""


@dataclass(frozen=True)
class KeypointSet:
    """Named points of the body. A keypoint is fixed to a bone (`bone` >= 0) or lies on a triangle (`bone` = -1).

    bone: (K,) joint whose rigid motion the point follows, or -1.
    template: (K, 3) and shapedirs: (K, 3, S): rest position and its change with shape, for points on bones; else zeros.
    vertices: (K, 3) and weights: (K, 3): triangle corners and barycentric coordinates, for points on the surface; else zeros.
    """

    bone: Integers
    template: Floats
    shapedirs: Floats
    vertices: Integers
    weights: Floats


@dataclass(frozen=True)
class MirrorMap:
    """What sits opposite after x -> -x. Each is an involution.

    vertices: (V,).  joints: (J,).  keypoints: (K,).  expression: (E,): permutations; betas: (S,) +1 or -1 per shape coefficient.
    The last two are None where the bases are not split into symmetric and antisymmetric parts (FLAME's are not).
    """

    vertices: Integers
    joints: Integers
    keypoints: Integers
    expression: Integers | None = None
    betas: Floats | None = None


@dataclass(frozen=True)
class Level:
    """A coarser mesh on a subset of the vertices.

    keep: (n,) vertices of the full mesh.  faces: (f, 3) on 0..n-1.
    up_vertices: (V, 3) rows of the coarse mesh and up_weights: (V, 3), so that full = sum of weights * coarse.
    """

    keep: Integers
    faces: Integers
    up_vertices: Integers
    up_weights: Floats


@dataclass(frozen=True)
class BodyArrays:
    """One body. V vertices, F triangles, J joints, S shape and E expression coefficients; metres.

    template: (V, 3).  faces: (F, 3).  shapedirs: (V, 3, S).  expressiondirs: (V, 3, E).  posedirs: (V, 3, P), P = 9 (J - 1) or 0.
    weights: (V, J), rows sum to 1.  parents: (J,), -1 at the root, a parent before its children.
    joint_template: (J, 3).  joint_shapedirs: (J, 3, S).  joint_expressiondirs: (J, 3, E): joints are linear in the coefficients.
    uv: (T, 2), face_uv: (F, 3): texture atlas coordinates, v up.  stiffness: (V,) in [0, 1], 1 = bone under thin skin.
    masks: name -> (V,) in [0, 1].  rings: name -> ordered open boundary.  caps: (C, 3) triangles that close the rings.
    pose_mean: (3 (J - 1),) axis-angle and pose_components: (n, 3 (J - 1)), of files that have a pose PCA.
    joint_regressor: (J, V), joints of a mesh, of hands whose file has it.
    flexion_axes: (J - 1, 3): turning joint j + 1 about its axis bends towards the palm.
    provenance: where the arrays come from (source, licence, sha256 ...), plain JSON.
    """

    kind: str
    template: Floats
    faces: Integers
    shapedirs: Floats
    weights: Floats
    parents: Integers
    joint_names: tuple[str, ...]
    joint_template: Floats
    joint_shapedirs: Floats
    keypoint_sets: Mapping[str, KeypointSet]
    expressiondirs: Floats
    joint_expressiondirs: Floats
    posedirs: Floats
    expression_names: tuple[str, ...] = ()
    uv: Floats | None = None
    face_uv: Integers | None = None
    stiffness: Floats | None = None
    pose_mean: Floats | None = None
    pose_components: Floats | None = None
    joint_regressor: Floats | None = None
    flexion_axes: Floats | None = None
    mirror: MirrorMap | None = None
    masks: Mapping[str, Floats] = field(default_factory=dict)
    rings: Mapping[str, Integers] = field(default_factory=dict)
    caps: Integers = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    levels: tuple[Level, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_betas(self) -> int:
        """S."""
        return int(self.shapedirs.shape[2])

    @property
    def num_expressions(self) -> int:
        """E; 0 for a hand."""
        return int(self.expressiondirs.shape[2])

    def check(self, file: str) -> BodyArrays:
        """Return self if shapes agree, numbers are finite and indices in range; raises BodyFileError naming `file` and key."""
        vertices, joints, betas = len(self.template), len(self.parents), self.num_betas
        expressions = self.num_expressions
        expected: dict[str, tuple[Any, tuple[int, ...]]] = {
            "template": (self.template, (vertices, 3)),
            "faces": (self.faces, (len(self.faces), 3)),
            "shapedirs": (self.shapedirs, (vertices, 3, betas)),
            "weights": (self.weights, (vertices, joints)),
            "joint_template": (self.joint_template, (joints, 3)),
            "joint_shapedirs": (self.joint_shapedirs, (joints, 3, betas)),
            "expressiondirs": (self.expressiondirs, (vertices, 3, expressions)),
            "joint_expressiondirs": (self.joint_expressiondirs, (joints, 3, expressions)),
            "stiffness": (self.stiffness, (vertices,)),
            "pose_mean": (self.pose_mean, (3 * joints - 3,)),
            "joint_regressor": (self.joint_regressor, (joints, vertices)),
            "flexion_axes": (self.flexion_axes, (joints - 1, 3)),
            **{f"masks.{name}": (mask, (vertices,)) for name, mask in self.masks.items()},
        }
        for key, (value, shape) in expected.items():
            if value is not None and tuple(value.shape) != shape:
                raise BodyFileError(f"{file}: key {key!r} has shape {tuple(value.shape)}, expected {shape}")
            if value is not None and not np.isfinite(value).all():
                raise BodyFileError(
                    f"{file}: key {key!r} holds {int((~np.isfinite(value)).sum())} values that are not finite"
                )
        if self.posedirs.shape not in ((vertices, 3, 0), (vertices, 3, 9 * (joints - 1))):
            raise BodyFileError(
                f"{file}: key 'posedirs' has shape {self.posedirs.shape}, expected {(vertices, 3, 9 * (joints - 1))}"
            )
        if not np.isfinite(self.posedirs).all():
            raise BodyFileError(f"{file}: key 'posedirs' holds values that are not finite")
        if self.parents[0] != -1 or not all(0 <= p < j for j, p in enumerate(self.parents[1:], 1)):
            raise BodyFileError(f"{file}: key 'parents' is not a tree with its root first: {self.parents.tolist()}")
        if len(self.faces) == 0 or self.faces.min() < 0 or self.faces.max() >= vertices:
            raise BodyFileError(f"{file}: key 'faces' must name vertices 0..{vertices - 1}")
        if np.abs(self.weights.sum(1) - 1).max() > 1e-3:
            raise BodyFileError(f"{file}: key 'weights': rows must sum to 1")
        return self
