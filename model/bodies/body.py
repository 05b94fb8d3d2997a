"""A hand or a head as a differentiable function of a few numbers: linear blend skinning over any body file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from handface.model.bodies.arrays import BodyArrays, Floats, Integers, Level
from handface.model.bodies.convention import SMPLX, Convention
from handface.model.bodies.keypoints import Keypoints
from handface.model.bodies.kinematics import KinematicTree
from handface.model.bodies.pyramid import SamplingLevel
from handface.model.bodies.rotation import axis_angle_to_matrix


@dataclass(frozen=True)
class BodyOutput:
    """Posed bodies, metres.

    vertices: (B, V, 3).  joints: (B, J, 3).  keypoints: (B, K, 3): 21 in MediaPipe order or 68 in iBUG order.
    transforms: (B, J, 4, 4), each joint's motion from the rest pose.
    rigid: (B, 4, 4), the part of it that global_orient and transl make: canonical frame -> world.
    """

    vertices: torch.Tensor
    joints: torch.Tensor
    keypoints: torch.Tensor
    transforms: torch.Tensor
    rigid: torch.Tensor


class ParametricBody(nn.Module):
    """One parametric hand or head, as described by `BodyArrays` and driven by a `Convention`.

    Buffers (move and cast with `.to()`): template (V, 3), faces (F, 3), skinning weights `lbs_weights` (V, J), stiffness (V,) or
    None, `mirror` (V,) or None. `levels` are the coarser meshes; `arrays` holds everything else in numpy.
    """

    template: torch.Tensor
    faces: torch.Tensor
    shapedirs: torch.Tensor
    expressiondirs: torch.Tensor
    posedirs: torch.Tensor
    lbs_weights: torch.Tensor
    joint_template: torch.Tensor
    joint_shapedirs: torch.Tensor
    joint_expressiondirs: torch.Tensor
    pose_mean: torch.Tensor
    pose_components: torch.Tensor
    turned: torch.Tensor

    def __init__(self, arrays: BodyArrays, convention: Convention = SMPLX, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.arrays, self.convention = arrays, convention
        self.parents = [int(parent) for parent in arrays.parents]
        self.num_joints, self.num_vertices = len(self.parents), len(arrays.template)
        self.pose_joints = convention.pose_joints or tuple(range(1, self.num_joints))
        if max(self.pose_joints) >= self.num_joints:
            raise ValueError(f"pose_joints {self.pose_joints}: the body has joints 0..{self.num_joints - 1}")
        self.tree = KinematicTree(self.parents)
        self.register_buffer("turned", torch.tensor(self.pose_joints), persistent=False)
        floats = {name: getattr(arrays, name) for name in _FLOATS} | self._pose_space(arrays)
        floats["lbs_weights"] = arrays.weights
        for name, value in floats.items():
            self.register_buffer(name, torch.tensor(value, dtype=dtype))
        self.register_buffer("faces", torch.from_numpy(arrays.faces.astype(np.int64)))
        self.register_buffer("stiffness", _optional(arrays.stiffness, dtype))
        self.register_buffer("mirror", _optional(arrays.mirror.vertices if arrays.mirror else None, torch.int64))
        name = convention.keypoints or next(iter(arrays.keypoint_sets))
        if name not in arrays.keypoint_sets:
            raise ValueError(f"no keypoint set {name!r}; one of {', '.join(arrays.keypoint_sets)}")
        self.keypoints = Keypoints(arrays.keypoint_sets[name], convention.tip_length, dtype)
        self.levels = nn.ModuleList(SamplingLevel(level, dtype) for level in arrays.levels)

    def _pose_space(self, arrays: BodyArrays) -> dict[str, Floats]:
        """The constant and the linear map that make axis-angle of `pose`, (P,) and (n, P); empty where pose is used as it is."""
        mean, components = np.zeros(3 * len(self.pose_joints)), np.zeros((0, 3 * len(self.pose_joints)))
        if not self.convention.flat_mean:
            if arrays.pose_mean is None:
                raise ValueError("flat_mean=False needs a body file with a mean pose; the free bodies have none")
            mean = np.asarray(arrays.pose_mean, np.float64)
        if (count := self.convention.pose_pca) is not None:
            if arrays.pose_components is None or len(arrays.pose_components) < count:
                held = 0 if arrays.pose_components is None else len(arrays.pose_components)
                raise ValueError(f"pose_pca={count}: the body file holds {held} pose components")
            components = np.asarray(arrays.pose_components[:count], np.float64)
        return {"pose_mean": mean, "pose_components": components}

    def with_levels(self, keep: Sequence[Sequence[int]]) -> ParametricBody:
        """The same body whose coarser meshes are these vertices of it. They have no faces, and nothing is interpolated from them.

        Raises ValueError for a vertex that the body does not have.
        """
        count = self.num_vertices
        for vertices in keep:
            if not all(0 <= vertex < count for vertex in vertices):
                raise ValueError(f"a mesh level names vertices beyond the body's {count}")
        none, weights = np.zeros((count, 3), np.int64), np.zeros((count, 3))
        levels = tuple(Level(np.array(vertices, np.int64), none[:0], none, weights) for vertices in keep)
        return ParametricBody(replace(self.arrays, levels=levels), self.convention, self.dtype).to(self.template.device)

    @property
    def num_pose(self) -> int:
        """Length of `pose`."""
        return self.convention.pose_pca or 3 * len(self.pose_joints)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the body and of everything it returns."""
        return self.template.dtype

    def mask(self, name: str) -> torch.Tensor:
        """A region of the surface, (V,) in [0, 1]. Raises KeyError with the names there are."""
        if name not in self.arrays.masks:
            raise KeyError(f"no mask {name!r}; the body has {', '.join(sorted(self.arrays.masks))}")
        return torch.tensor(self.arrays.masks[name]).to(self.template)

    def forward(
        self,
        betas: torch.Tensor | None = None,
        pose: torch.Tensor | None = None,
        global_orient: torch.Tensor | None = None,
        transl: torch.Tensor | None = None,
        expression: torch.Tensor | None = None,
    ) -> BodyOutput:
        """Pose the body. What is left out is zero; batches of 1 are broadcast.

        betas: (B, <= S).  expression: (B, <= E).  pose: (B, num_pose) axis-angle in radians (or PCA weights).
        global_orient: (B, 3) axis-angle.  transl: (B, 3) metres.  Equation: SMPL (Loper 2015), eqs. 2-10.
        Raises ValueError if a width does not fit the body.
        """
        inputs = {
            "betas": betas,
            "pose": pose,
            "global_orient": global_orient,
            "transl": transl,
            "expression": expression,
        }
        betas, pose, global_orient, transl, expression = self._complete(inputs)
        rest = self._blend(self.template, self.shapedirs, betas, self.expressiondirs, expression)
        joints = self._blend(self.joint_template, self.joint_shapedirs, betas, self.joint_expressiondirs, expression)
        rotations = self._rotations(pose)
        if self.posedirs.shape[2]:
            identity = torch.eye(3, dtype=self.dtype, device=rest.device)
            rest = rest + _directions(self.posedirs, (rotations[:, 1:] - identity).flatten(1))
        transforms = self._chain(rotations, joints)
        vertices = _skin(self.lbs_weights, transforms, rest)
        pivot = joints[:, 0] if self.convention.pivot == "root_joint" else vertices.mean(1)
        rigid = _rigid_about(pivot, axis_angle_to_matrix(global_orient), transl)
        vertices = vertices @ rigid[:, :3, :3].mT + rigid[:, None, :3, 3]
        transforms = rigid[:, None] @ transforms
        posed_joints = torch.einsum("bjik,bjk->bji", transforms[..., :3, :3], joints) + transforms[..., :3, 3]
        return BodyOutput(vertices, posed_joints, self.keypoints(betas, vertices, transforms), transforms, rigid)

    def _complete(self, inputs: dict[str, torch.Tensor | None]) -> list[torch.Tensor]:
        """Zeros for what is missing, one batch size for all; checks widths."""
        widths = {"betas": self.arrays.num_betas, "pose": self.num_pose, "global_orient": 3, "transl": 3}
        widths["expression"] = self.arrays.num_expressions
        batch = max((len(value) for value in inputs.values() if value is not None), default=1)
        completed = []
        for name, width in widths.items():
            value = inputs[name]
            if value is None:
                value = self.template.new_zeros(1, width)
            at_most = name in ("betas", "expression")
            if value.ndim != 2 or value.shape[1] > width or (value.shape[1] < width and not at_most):
                expected = f"(B, {'<= ' if at_most else ''}{width})"
                raise ValueError(f"{name} has shape {tuple(value.shape)}, this {self.arrays.kind} takes {expected}")
            if len(value) not in (1, batch):
                raise ValueError(f"{name} has batch {len(value)}, the others {batch}")
            completed.append(value.to(self.template).expand(batch, -1))
        return completed

    @staticmethod
    def _blend(
        base: torch.Tensor,
        shapedirs: torch.Tensor,
        betas: torch.Tensor,
        expressiondirs: torch.Tensor,
        expression: torch.Tensor,
    ) -> torch.Tensor:
        """(N, 3) + two linear bases -> (B, N, 3)."""
        shaped = base + _directions(shapedirs, betas)
        return shaped + _directions(expressiondirs, expression) if expression.shape[1] else shaped

    def _rotations(self, pose: torch.Tensor) -> torch.Tensor:
        """Local rotation of every joint, (B, J, 3, 3)."""
        if len(self.pose_components):
            pose = pose @ self.pose_components
        turned = axis_angle_to_matrix((pose + self.pose_mean).unflatten(1, (-1, 3)))
        identity = torch.eye(3, dtype=self.dtype, device=pose.device).expand(len(pose), self.num_joints, 3, 3)
        return identity.index_copy(1, self.turned, turned)

    def _chain(self, rotations: torch.Tensor, joints: torch.Tensor) -> torch.Tensor:
        """Rest-to-posed transforms along the kinematic tree, (B, J, 4, 4)."""
        turns, places = self.tree(rotations, self.tree.offsets(joints)[..., None])
        return _homogeneous(turns, places[..., 0] - (turns @ joints[..., None])[..., 0])


_FLOATS = (
    "template",
    "shapedirs",
    "expressiondirs",
    "posedirs",
    "joint_template",
    "joint_shapedirs",
    "joint_expressiondirs",
)


def _directions(basis: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """sum_k c_k basis[..., k]: (N, 3, K) and (B, <= K) -> (B, N, 3)."""
    count = coefficients.shape[1]
    return (coefficients @ basis[..., :count].reshape(-1, count).T).unflatten(1, (-1, 3))


def _skin(weights: torch.Tensor, transforms: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Linear blend skinning. weights: (V, J).  transforms: (B, J, 4, 4).  points: (B, V, 3) -> (B, V, 3)."""
    blended = torch.einsum("vj,bjx->bxv", weights, transforms[:, :, :3].flatten(2)).unflatten(1, (3, 4))
    # planes of x, y, z: a batched product of 3 x 3 matrices is several times slower on a CPU
    posed = blended[:, :, 3]
    for axis, plane in enumerate(points.unbind(2)):
        posed = torch.addcmul(posed, blended[:, :, axis], plane[:, None])
    return posed.transpose(1, 2)


def _rigid_about(pivot: torch.Tensor, rotation: torch.Tensor, transl: torch.Tensor) -> torch.Tensor:
    """x -> R (x - pivot) + pivot + transl as (B, 4, 4)."""
    return _homogeneous(rotation, pivot - (rotation @ pivot[..., None])[..., 0] + transl)


def _homogeneous(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """(..., 3, 3) and (..., 3) -> (..., 4, 4)."""
    top = torch.cat([rotation, translation[..., None]], -1)
    bottom = top.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], -2)


def _optional(value: Floats | Integers | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if value is None else torch.tensor(value, dtype=dtype)
