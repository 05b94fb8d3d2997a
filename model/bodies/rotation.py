"""Axis-angle vectors and rotation matrices."""

from __future__ import annotations

import math

import torch

_SMALL = 1e-4  # squared angle below which the series is exact to double precision


def axis_angle_to_matrix(axis_angle: torch.Tensor) -> torch.Tensor:
    """Rodrigues' formula R = I + sin(t)/t K + (1 - cos t)/t^2 K^2, differentiable at zero. (..., 3) radians -> (..., 3, 3)."""
    squared = axis_angle.square().sum(-1)
    small = squared < _SMALL
    safe = torch.where(small, torch.ones_like(squared), squared)
    angle = safe.sqrt()
    first = torch.where(small, 1 - squared / 6 + squared.square() / 120, angle.sin() / angle)
    second = torch.where(small, 0.5 - squared / 24 + squared.square() / 720, 2 * (angle / 2).sin().square() / safe)
    cross = skew(axis_angle)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + first[..., None, None] * cross + second[..., None, None] * (cross @ cross)


def matrix_and_jacobian(axis_angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotations exp(a), and J with exp(a + da) = exp(J da) exp(a) to first order. (..., 3) radians -> twice (..., 3, 3). Has no gradient at zero.

    J = I + (1 - cos t)/t^2 K + (t - sin t)/t^3 K^2 and exp(a) = I + K J.
    """
    squared = axis_angle.square().sum(-1)
    angle = squared.sqrt()
    first = torch.sinc(angle / (2 * math.pi)).square() / 2
    second = torch.where(squared < _SMALL, 1 / 6 - squared / 120, (1 - torch.sinc(angle / math.pi)) / squared)
    cross = skew(axis_angle)
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    jacobian = identity + first[..., None, None] * cross + second[..., None, None] * (cross @ cross)
    return identity + cross @ jacobian, jacobian


def skew(vector: torch.Tensor) -> torch.Tensor:
    """[v]x with [v]x w = v x w. (..., 3) -> (..., 3, 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))


def mirror_axis_angle(axis_angle: torch.Tensor) -> torch.Tensor:
    """The rotation seen in the mirror x -> -x: M R M. (..., 3) -> (..., 3); also for flat (..., 3 n)."""
    sign = torch.tensor([1.0, -1.0, -1.0], dtype=axis_angle.dtype, device=axis_angle.device)
    return (axis_angle.unflatten(-1, (-1, 3)) * sign).flatten(-2)


def nearest_rotation(matrix: torch.Tensor) -> torch.Tensor:
    """The rotation that is nearest to each matrix; of a mean of rotations the chordal mean. (..., 3, 3) -> (..., 3, 3)."""
    left, _, right = torch.linalg.svd(matrix)
    sign = torch.ones_like(matrix[..., 0])
    sign[..., 2] = torch.linalg.det(left @ right)
    return (left * sign[..., None, :]) @ right


def matrix_to_axis_angle(rotation: torch.Tensor, near: tuple[float, float, float]) -> torch.Tensor:
    """Axis-angle of rotations, differentiable, angle in [0, 2 pi). (..., 3, 3) -> (..., 3) radians.

    A rotation has two such vectors, of opposite quaternions; given is the one on the side of `near`, so that it is continuous for
    all rotations less than pi away from there, also around half turns.
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotation.unbind(-2))
    # four multiples w q, x q, y q, z q of the quaternion q = (w, x, y, z); the largest is the exact one
    candidates = torch.stack(
        [
            torch.stack([1 + a + e + i, h - f, c - g, d - b], -1),
            torch.stack([h - f, 1 + a - e - i, b + d, c + g], -1),
            torch.stack([c - g, b + d, 1 - a + e - i, f + h], -1),
            torch.stack([d - b, c + g, f + h, 1 - a - e + i], -1),
        ],
        -2,
    )  # (..., 4, 4)
    largest = candidates.square().sum(-1).argmax(-1)[..., None, None].expand(*rotation.shape[:-2], 1, 4)
    chosen = candidates.gather(-2, largest)[..., 0, :]
    half = math.sqrt(sum(x * x for x in near)) / 2
    scale = math.sin(half) / (2 * half) if half else 0.5
    towards = (math.cos(half), *(scale * x for x in near))
    side = torch.stack([weight * value for weight, value in zip(towards, chosen.unbind(-1), strict=True)], -1).sum(-1)
    chosen = torch.where((side < 0)[..., None], -chosen, chosen)
    chosen = chosen / chosen.square().sum(-1, keepdim=True).sqrt()
    w, xyz = chosen[..., 0], chosen[..., 1:]
    squared = xyz.square().sum(-1)
    small = squared < 1e-12
    sine = torch.where(small, torch.ones_like(squared), squared).sqrt()
    factor = torch.where(small, 2 / w.clamp(min=0.5), 2 * torch.atan2(sine, w) / sine)
    return factor[..., None] * xyz
