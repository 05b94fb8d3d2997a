"""A body reduced to the few points a fit looks at: their places and exact derivatives, without posing the whole mesh.

A keypoint is a weighted sum of skinned vertices (or a point on one bone), so with T_j = [Q_j | tau_j] the motion of joint j

    p_n = sum_j Q_j a_nj + w_nj tau_j,    a_nj = sum_v k_nv w_vj v(betas, expression, pose),    w_nj = sum_v k_nv w_vj,

where k are the point's weights on vertices and w the skinning weights. The a_nj are linear in shape, expression and pose features:
small tables made once per body. Then x = R (p - pivot) + pivot + transl, as in `ParametricBody`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from handface.model.bodies.body import ParametricBody
from handface.model.bodies.rotation import axis_angle_to_matrix

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
        self.num_shape = directions.shape[2]
        self.num_pose = body.num_pose
        self.size = self.num_shape + self.num_pose + 6
        self.parents, self.pose_joints = body.parents, list(body.pose_joints)
        self.centroid_pivot = body.convention.pivot == "vertex_centroid"
        self.base = place(table[..., 0])
        self.shape_table = place(table[..., 1 : 1 + self.num_shape])
        self.pose_table = place(table[..., 1 + self.num_shape :])
        self.weight = place(weight)
        self.joint_base = place(buffer("joint_template"))
        self.joint_shape = place(torch.cat([buffer("joint_shapedirs"), buffer("joint_expressiondirs")], 2))
        self.pose_mean, self.pose_components = place(buffer("pose_mean")), place(buffer("pose_components"))
        self.below = place(_descendants(self.parents).to(double))[self.pose_joints]  # (M, J)

    def unpack(self, packed: torch.Tensor) -> FitParameters:
        """The inverse of `Parameters.pack`."""
        return FitParameters(*packed.split([self.num_shape, self.num_pose, 3, 3], 1))

    def axis_angles(self, pose: torch.Tensor) -> torch.Tensor:
        """(B, P) as the body takes it -> rotations of the joints in `pose_joints`, (B, M, 3) radians."""
        if len(self.pose_components):
            pose = pose @ self.pose_components
        return (pose + self.pose_mean).unflatten(1, (-1, 3))

    def evaluate(self, x: FitParameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Points (B, N, 3) in metres and their derivatives (B, N, 3, size) by the packed parameters."""
        theta = self.axis_angles(x.pose)
        turns = axis_angle_to_matrix(theta)  # (B, M, 3, 3)
        inner = left_jacobian(theta)
        joints = self.joint_base + torch.einsum("jks,bs->bjk", self.joint_shape, x.shape)
        world, places, places_shape = self._chain(turns, joints)
        features = self._features(turns)
        rest = self.base + torch.einsum("njks,bs->bnjk", self.shape_table, x.shape)
        if features is not None:
            rest = rest + torch.einsum("njkf,bf->bnjk", self.pose_table, features)
        shift = places - (world @ joints[..., None])[..., 0]
        parts = torch.einsum("bjik,bnjk->bnji", world, rest) + self.weight[..., None] * shift[:, None]
        points = parts.sum(2)
        shift_shape = places_shape - torch.einsum("bjik,jks->bjis", world, self.joint_shape)
        by_shape = torch.einsum("bjik,njks->bnis", world, self.shape_table)
        by_shape = by_shape + torch.einsum("nj,bjis->bnis", self.weight, shift_shape)
        by_pose = self._by_pose(parts, world, places, turns, inner)
        return self._place(x, points, by_shape, by_pose, joints)

    def _chain(self, turns: torch.Tensor, joints: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """World rotation (B, J, 3, 3) and place (B, J, 3) of each joint, and the places' derivatives by shape (B, J, 3, S + E)."""
        local = dict(zip(self.pose_joints, turns.unbind(1), strict=True))
        world: list[torch.Tensor] = []
        places: list[torch.Tensor] = []
        by_shape: list[torch.Tensor] = []
        identity = torch.eye(3, dtype=joints.dtype, device=joints.device).expand(len(joints), 3, 3)
        for joint, parent in enumerate(self.parents):
            turn = local.get(joint, identity)
            if parent < 0:
                world.append(turn)
                places.append(joints[:, joint])
                by_shape.append(self.joint_shape[joint].expand(len(joints), -1, -1))
                continue
            world.append(world[parent] @ turn)
            offset = (joints[:, joint] - joints[:, parent])[..., None]
            places.append(places[parent] + (world[parent] @ offset)[..., 0])
            by_shape.append(by_shape[parent] + world[parent] @ (self.joint_shape[joint] - self.joint_shape[parent]))
        return torch.stack(world, 1), torch.stack(places, 1), torch.stack(by_shape, 1)

    def _features(self, turns: torch.Tensor) -> torch.Tensor | None:
        """What pose blend shapes weigh: R - I of every joint but the root, (B, 9 (J - 1)); None where the body has none."""
        if not self.pose_table.shape[3]:
            return None
        full = turns.new_zeros(len(turns), len(self.parents), 3, 3)
        full[:, self.pose_joints] = turns - torch.eye(3, dtype=turns.dtype, device=turns.device)
        return full[:, 1:].flatten(1)

    def _by_pose(
        self,
        parts: torch.Tensor,
        world: torch.Tensor,
        places: torch.Tensor,
        turns: torch.Tensor,
        inner: torch.Tensor,
    ) -> torch.Tensor:
        """Derivative of the points by `pose`, (B, N, 3, P)."""
        pivot = places[:, self.pose_joints]  # (B, M, 3)
        arm = torch.einsum("bnji,mj->bnmi", parts, self.below)
        arm = arm - (self.weight @ self.below.T)[..., None] * pivot[:, None]
        identity = torch.eye(3, dtype=world.dtype, device=world.device).expand(len(world), 3, 3)
        before = torch.stack(
            [identity if self.parents[j] < 0 else world[:, self.parents[j]] for j in self.pose_joints], 1
        )
        axes = before @ inner  # (B, M, 3, 3): columns turn the world when one number of the pose changes
        by_theta = torch.linalg.cross(axes[:, None], arm[..., None].expand(*arm.shape, 3), dim=3)  # (B, N, M, 3, 3)
        if self.pose_table.shape[3]:
            change = skew(inner.mT.contiguous()) @ turns[:, :, None]  # (B, M, 3 numbers, 3, 3)
            for m, joint in enumerate(self.pose_joints):
                if joint:
                    table = self.pose_table[..., 9 * joint - 9 : 9 * joint]
                    moved = torch.einsum("njkf,bcf->bnjkc", table, change[:, m].flatten(2))
                    by_theta[:, :, m] += torch.einsum("bjik,bnjkc->bnic", world, moved)
        by_pose = by_theta.permute(0, 1, 3, 2, 4).flatten(3)  # (B, N, 3, 3 M)
        return by_pose @ self.pose_components.T if len(self.pose_components) else by_pose

    def _place(
        self,
        x: FitParameters,
        points: torch.Tensor,
        by_shape: torch.Tensor,
        by_pose: torch.Tensor,
        joints: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rigid motion x -> R (x - pivot) + pivot + transl and the derivatives through it."""
        rotation = axis_angle_to_matrix(x.global_orient)[:, None]
        local = torch.cat([by_shape, by_pose], 3)
        if self.centroid_pivot:
            pivot, by_pivot = points[:, self.num_keypoints, None], local[:, self.num_keypoints, None]
        else:
            pivot = joints[:, None, 0]
            by_pivot = torch.cat([self.joint_shape[0], self.joint_shape.new_zeros(3, by_pose.shape[3])], 1)
        turned = (rotation @ (points - pivot)[..., None])[..., 0]
        derivative = torch.cat(
            [
                rotation @ (local - by_pivot) + by_pivot,
                skew(turned).mT @ left_jacobian(x.global_orient)[:, None],
                torch.eye(3, dtype=points.dtype, device=points.device).expand(*points.shape, 3),
            ],
            3,
        )
        return turned + pivot + x.transl[:, None], derivative


def skew(vector: torch.Tensor) -> torch.Tensor:
    """[v]x with [v]x w = v x w. (..., 3) -> (..., 3, 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def left_jacobian(axis_angle: torch.Tensor) -> torch.Tensor:
    """J with exp(a + da) = exp(J da) exp(a) to first order. (..., 3) -> (..., 3, 3)."""
    squared = axis_angle.square().sum(-1)
    small = squared < 1e-4
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(small, 0.5 - squared / 24, 2 * (angle / 2).sin().square() / safe)
    second = torch.where(small, 1 / 6 - squared / 120, (angle - angle.sin()) / (safe * angle))
    cross = skew(axis_angle)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + first[..., None, None] * cross + second[..., None, None] * (cross @ cross)


def _descendants(parents: Sequence[int]) -> torch.Tensor:
    """(J, J): entry (m, j) is true where joint j moves with joint m."""
    below = torch.eye(len(parents), dtype=torch.bool)
    for joint, parent in enumerate(parents):
        if parent >= 0:
            below[:, joint] |= below[:, parent]
    return below
