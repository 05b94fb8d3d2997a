"""A body reduced to the few points a fit looks at: their places and exact derivatives, without posing the whole mesh.

A keypoint is a weighted sum of skinned vertices (or a point on one bone), so with Q_j the rotation of joint j, q_j its place and x_j its place at rest

    p_n = sum_j Q_j a_nj + w_nj q_j,    a_nj = sum_v k_nv w_vj (v(betas, expression, pose) - x_j),    w_nj = sum_v k_nv w_vj,

where k are the point's weights on vertices and w the skinning weights. The a_nj are linear in shape, expression and pose features:
small tables made once per body. global_orient turns the root last, about the root or the mean vertex, as in `ParametricBody`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from handface.model.bodies.body import ParametricBody
from handface.model.bodies.kinematics import KinematicTree
from handface.model.bodies.rotation import matrix_and_jacobian, skew

_HAND_TIPS, _HAND_LAST_JOINTS = [4, 8, 12, 16, 20], [3, 7, 11, 15, 19]


@dataclass(frozen=True)
class FitParameters:
    """One body's variables. shape: (B, S + E) betas then expression.  pose: (B, P).  global_orient, transl: (B, 3)."""

    shape: torch.Tensor
    pose: torch.Tensor
    global_orient: torch.Tensor
    transl: torch.Tensor

    def pack(self) -> torch.Tensor:
        """(B, S + E + P + 6), in the order of the fields."""
        return torch.cat([self.shape, self.pose, self.global_orient, self.transl], 1)


class KeypointBody:
    """Keypoints, the mean vertex and chosen vertices of a body, with derivatives. Lives on the device and dtype given.

    Rows of its points: the K keypoints, the mean of all vertices (row K), then the chosen vertices.
    """

    def __init__(
        self,
        body: ParametricBody,
        vertices: Sequence[int] = (),
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        double = torch.float64
        joints, points = body.num_joints, body.keypoints
        count = len(points.bone)
        regressor = torch.zeros(count + 1 + len(vertices), body.num_vertices, dtype=double)
        surface = torch.where(points.on_bone.cpu()[:, None], 0.0, points.weights.cpu().to(double))
        regressor[:count].scatter_add_(1, points.corners.cpu(), surface)
        regressor[count] = 1 / body.num_vertices
        regressor[torch.arange(count + 1, len(regressor)), torch.as_tensor(list(vertices), dtype=torch.int64)] = 1

        def buffer(name: str) -> torch.Tensor:
            value: torch.Tensor = getattr(body, name)
            return value.detach().cpu().to(double)

        # (N, J, V) would be large: per joint instead
        skinning = buffer("lbs_weights")
        directions = torch.cat([buffer("shapedirs"), buffer("expressiondirs")], 2)
        fields = torch.cat([buffer("template")[..., None], directions, buffer("posedirs")], 2)  # (V, 3, 1 + S + E + F)
        table = torch.stack([(regressor * skinning[:, j]) @ fields.flatten(1) for j in range(joints)], 1)
        table = table.unflatten(2, (3, -1))
        weight = regressor @ skinning
        rows = torch.arange(count)[points.on_bone.cpu()]
        bone = points.bone.cpu()[rows]
        weight[rows, bone] = 1
        table[rows, bone, :, 0] = points.template.cpu().to(double)[rows]
        betas = body.arrays.num_betas
        table[rows, bone, :, 1 : 1 + betas] = points.shapedirs.cpu().to(double)[rows]
        if points.tip_length != 1:
            for values in (table, weight):
                last = values[_HAND_LAST_JOINTS]
                values[_HAND_TIPS] = last + points.tip_length * (values[_HAND_TIPS] - last)

        def place(value: torch.Tensor) -> torch.Tensor:
            return value.to(device, dtype).contiguous()

        self.num_keypoints, self.num_betas = count, betas
        self.num_shape, self.num_pose = directions.shape[2], body.num_pose
        self.size = self.num_shape + self.num_pose + 6
        self.centroid_pivot = body.convention.pivot == "vertex_centroid"
        joint = torch.cat(
            [buffer("joint_template")[..., None], buffer("joint_shapedirs"), buffer("joint_expressiondirs")], 2
        )  # (J, 3, 1 + S + E)
        tree = KinematicTree(body.parents)
        self.offsets, self.tree = place(tree.offsets(joint[None])), tree.to(device)  # offsets: (1, J, 3, 1 + S + E)
        table[..., : joint.shape[2]] -= weight[..., None, None] * joint  # about the joints, whose places are added
        by_joint = table.transpose(0, 1)  # (J, N, 3, 1 + S + E + F)
        self.rest, self.rest_by_fields = place(by_joint[..., 0].flatten()), place(by_joint[..., 1:].flatten(0, 2).T)
        self.fields_of_turns = place(by_joint[..., 1:].transpose(1, 2).flatten(0, 1).flatten(1))  # (J 3, N (S + E + F))
        self.weight, self.identity = place(weight), place(torch.eye(3))
        self.pose_mean, self.pose_components = place(buffer("pose_mean")), place(buffer("pose_components"))
        self._list_turns(body, place, device)

    def _list_turns(self, body: ParametricBody, place: Callable[[torch.Tensor], torch.Tensor], device: str) -> None:
        """The M + 1 rotations of a body: of the joints that `pose` turns, then global_orient, which turns the root last."""

        def rows(values: Sequence[int]) -> torch.Tensor:
            return torch.tensor(list(values), dtype=torch.int64, device=device)

        joints, count = list(body.pose_joints), body.num_joints
        self.pose_joints = rows(joints)
        # what has turned before each of them: its parent, for a root that pose turns global_orient (row J), for that nothing (J + 1)
        self.turned_before = rows([*(body.parents[j] if j else count for j in joints), count + 1])
        below = _descendants(body.parents).to(torch.float64)[[*joints, 0]]
        self.below, self.weight_below = place(below), place(below @ self.weight.cpu().to(torch.float64).T)
        blended = [m for m, joint in enumerate(joints) if joint]  # the root has no pose blend shapes
        self.blended, self.blended_joints = rows(blended), rows([joints[m] - 1 for m in blended])

    def unpack(self, packed: torch.Tensor) -> FitParameters:
        """The inverse of `FitParameters.pack`."""
        return FitParameters(*packed.split([self.num_shape, self.num_pose, 3, 3], 1))

    def axis_angles(self, pose: torch.Tensor) -> torch.Tensor:
        """(B, P) as the body takes it -> rotations of the joints in `pose_joints`, (B, M, 3) radians."""
        if len(self.pose_components):
            pose = pose @ self.pose_components
        return (pose + self.pose_mean).unflatten(1, (-1, 3))

    def points(self, x: FitParameters) -> torch.Tensor:
        """Points (B, N, 3) in metres."""
        return self._pose(x).points

    def evaluate(self, x: FitParameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (B, N, 3) in metres and their derivatives (B, N, 3, size) by the packed parameters."""
        posed = self._pose(x)
        by_shape, by_features = self._by_fields(posed)
        by_pose, by_orient = self._by_turns(posed, by_features)
        if self.centroid_pivot:  # the pivot is a point of the body, and moves with it
            by_pivot = torch.cat([by_shape[:, self.num_keypoints], by_pose[:, self.num_keypoints]], 2)
            root = by_pivot.new_zeros(by_pivot.shape[1:])
            root[:, : self.num_shape] = self.offsets[0, 0, :, 1:]
            lift = root + posed.turns[:, -1].mT @ (by_pivot - root) - by_pivot
            by_shape = by_shape + lift[:, None, :, : self.num_shape]
            by_pose = by_pose + lift[:, None, :, self.num_shape :]
        identity = self.identity.expand(*by_shape.shape[:2], 3, 3)
        return posed.points, torch.cat([by_shape, by_pose, by_orient, identity], 3)

    def _pose(self, x: FitParameters) -> _Posed:
        """Turn the joints and add up what each contributes to each point."""
        turns, inner = matrix_and_jacobian(torch.cat([self.axis_angles(x.pose), x.global_orient[:, None]], 1))
        joints = self.offsets.shape[1]
        local = self.identity.expand(len(turns), joints, 3, 3).index_copy(1, self.pose_joints, turns[:, :-1])
        fields = x.shape
        if self.rest_by_fields.shape[0] > self.num_shape:  # pose blend shapes weigh R - I of every joint but the root
            fields = torch.cat([fields, (local[:, 1:] - self.identity).flatten(1)], 1)
        rest = torch.addmm(self.rest, fields, self.rest_by_fields).unflatten(1, (joints, -1, 3))
        local[:, 0] = turns[:, -1] @ local[:, 0]
        world, offsets = self.tree(local, self.offsets)
        places = offsets[..., 0] + (offsets[..., 1:] @ x.shape[:, None, :, None])[..., 0]
        parts = torch.addcmul(rest @ world.mT, self.weight.T[..., None], places[:, :, None])
        points = parts.sum(1)
        pivot, lift = places[:, 0], x.transl
        if self.centroid_pivot:
            pivot = points[:, self.num_keypoints]
            lift = lift + places[:, 0] + (turns[:, -1].mT @ (pivot - places[:, 0])[..., None])[..., 0] - pivot
        return _Posed(points + lift[:, None], parts, turns, inner, world, places, offsets[..., 1:], pivot)

    def _by_fields(self, posed: _Posed) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of the points by shape (B, N, 3, S + E) and by what pose blend shapes weigh (B, N, 3, F)."""
        turns = posed.world.transpose(1, 2).flatten(2)  # (B, 3, J 3)
        by_fields = (turns @ self.fields_of_turns).unflatten(2, (len(self.weight), -1)).transpose(1, 2)
        by_places = (self.weight @ posed.places_by_shape.flatten(2)).unflatten(2, (3, -1))
        return by_fields[..., : self.num_shape] + by_places, by_fields[..., self.num_shape :]

    def _by_turns(self, posed: _Posed, by_features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Derivatives of the points by pose (B, N, 3, P) and by global_orient (B, N, 3, 3)."""
        identity = self.identity.expand(len(posed.turns), 1, 3, 3)
        before = torch.cat([posed.world, posed.turns[:, -1:], identity], 1).index_select(1, self.turned_before)
        axes = before @ posed.inner  # (B, M + 1, 3, 3): columns turn the world when one number changes
        pivots = torch.cat([posed.places.index_select(1, self.pose_joints), posed.pivot[:, None]], 1)
        arms = (self.below @ posed.parts.flatten(2)).unflatten(2, (-1, 3))  # (B, M + 1, N, 3)
        arms = torch.addcmul(arms, self.weight_below[..., None], pivots[:, :, None], value=-1)
        turned = torch.linalg.cross(axes[:, :, None], arms[..., None].expand(*arms.shape, 3), dim=3)
        if by_features.shape[3]:
            axis = posed.inner[:, self.blended].mT
            change = (skew(axis) @ posed.turns[:, self.blended, None]).flatten(3)  # (B, M', 3 numbers, 9)
            table = by_features.unflatten(3, (-1, 9)).index_select(3, self.blended_joints)
            turned[:, self.blended] += torch.einsum("bnimf,bmcf->bmnic", table, change)
        by_pose = turned[:, :-1].permute(0, 2, 3, 1, 4).flatten(3)  # (B, N, 3, 3 M)
        if len(self.pose_components):
            by_pose = by_pose @ self.pose_components.T
        return by_pose, turned[:, -1]


@dataclass(frozen=True)
class _Posed:
    """A posed body. points: (B, N, 3).  parts: (B, J, N, 3), what each joint contributes to them before `transl` and pivot.

    turns, inner: (B, M + 1, 3, 3) local rotations and their left Jacobians.  world: (B, J, 3, 3), places: (B, J, 3) of the joints,
    places_by_shape: (B, J, 3, S + E).  pivot: (B, 3) what global_orient turns about.
    """

    points: torch.Tensor
    parts: torch.Tensor
    turns: torch.Tensor
    inner: torch.Tensor
    world: torch.Tensor
    places: torch.Tensor
    places_by_shape: torch.Tensor
    pivot: torch.Tensor


def _descendants(parents: Sequence[int]) -> torch.Tensor:
    """(J, J): entry (m, j) is true where joint j moves with joint m."""
    below = torch.eye(len(parents), dtype=torch.bool)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            below[:, joint] |= below[:, parent]
    return below
