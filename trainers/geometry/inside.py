"""Which points lie inside a closed surface: signed crossings of a ray, which is the winding number, counted exactly."""

from __future__ import annotations

import torch

from handface.trainers.geometry.crossing import crossing
from handface.trainers.geometry.grid import candidates

_PAIRS = 1 << 24  # point-triangle pairs held at once


@torch.no_grad()
def inside(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Which points a closed surface encloses, (B, N) bool. points: (B, N, 3).  vertices: (B, V, 3).  faces: (F, 3) of a closed mesh.

    Parts that overlap or lie within each other (eyeballs in a head) do no harm: inside is a winding number of 1 or more.
    """
    return winding_number(points, vertices, faces) > 0.5


@torch.no_grad()
def winding_number(
    points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor, cull: bool | None = None
) -> torch.Tensor:
    """How often a closed surface turns around each point, (B, N): the ray towards +z counts +1 where it leaves, -1 where it enters.

    Equals the generalised winding number (Jacobson 2013) of a closed mesh, in whole numbers and without its arc tangents.
    points: (B, N, 3).  vertices: (B, V, 3).  faces: (F, 3), counter-clockwise from outside.
    cull: sort triangles into a grid first, which is 50 times less work but has to know sizes on the host; None: on the CPU.
    """
    if cull if cull is not None else points.device.type == "cpu":
        return _culled(points, vertices, faces)
    corners = vertices[:, faces][:, None]  # (B, 1, F, 3, 3)
    step = max(1, _PAIRS // max(1, len(points) * len(faces)))
    return torch.cat([crossing(corners, chunk[:, :, None]).sum(-1) for chunk in points.split(step, 1)], 1)


def _culled(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """The same, each point against the triangles near its line only; points before or behind the whole mesh are outside."""
    depth = points[..., 2]
    between = (depth >= vertices[..., 2].amin(1, keepdim=True)) & (depth <= vertices[..., 2].amax(1, keepdim=True))
    point, sample, face = candidates(points, vertices, faces, between)
    passes = crossing(vertices[sample[:, None], faces[face]], points.flatten(0, 1)[point])
    return points.new_zeros(points.shape[:2].numel()).index_add_(0, point, passes).view(points.shape[:2])
