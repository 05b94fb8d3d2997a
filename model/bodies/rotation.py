"""Axis-angle vectors and rotation matrices."""

from __future__ import annotations

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
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return identity + first[..., None, None] * cross + second[..., None, None] * (cross @ cross)


def mirror_axis_angle(axis_angle: torch.Tensor) -> torch.Tensor:
    """The rotation seen in the mirror x -> -x: M R M. (..., 3) -> (..., 3); also for flat (..., 3 n)."""
    sign = torch.tensor([1.0, -1.0, -1.0], dtype=axis_angle.dtype, device=axis_angle.device)
    return (axis_angle.unflatten(-1, (-1, 3)) * sign).flatten(-2)
