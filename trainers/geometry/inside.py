"""Which points lie inside a closed surface: signed crossings of a ray, which is the winding number, counted exactly."""

from __future__ import annotations

import torch

from trainers.geometry.crossing import crossing

_PAIRS = 1 << 24  # point-triangle pairs held at once
_CELLS = 48  # of the culling grid, per axis


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
    """The same, each point against the triangles that reach into its cell of a grid over x and y."""
    batch, count, device = *points.shape[:2], points.device
    low, high = vertices[..., :2].amin(1, keepdim=True), vertices[..., :2].amax(1, keepdim=True)
    size = ((high - low) / _CELLS).clamp(min=torch.finfo(points.dtype).tiny)  # (B, 1, 2)
    sample = torch.arange(batch, device=device)[:, None]

    flat = vertices[:, faces]  # (B, F, 3, 3)
    first = _cell(flat[..., :2].amin(2), low, size)
    last = _cell(flat[..., :2].amax(2), low, size)
    spans = (last - first + 1).flatten(0, 1)  # (B F, 2) cells that each triangle's box covers
    triangle, place = _expand(spans.prod(-1))
    column = first.flatten(0, 1)[triangle, 0] + place % spans[triangle, 0]
    row = first.flatten(0, 1)[triangle, 1] + place // spans[triangle, 0]
    cell = (triangle // len(faces) * _CELLS + row) * _CELLS + column
    order = cell.argsort(stable=True)
    held = torch.bincount(cell, minlength=batch * _CELLS * _CELLS)
    starts = held.cumsum(0) - held

    within = ((points[..., :2] >= low) & (points[..., :2] <= high)).all(-1)
    where = _cell(points[..., :2], low, size)
    mine = ((sample * _CELLS + where[..., 1]) * _CELLS + where[..., 0]).flatten()
    point, place = _expand(torch.where(within.flatten(), held[mine], 0))
    chosen = triangle[order[starts[mine[point]] + place]]
    passes = crossing(flat.flatten(0, 1)[chosen], points.flatten(0, 1)[point])
    return points.new_zeros(batch * count).index_add_(0, point, passes).view(batch, count)


def _cell(position: torch.Tensor, low: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    return ((position - low) / size).floor().long().clamp(0, _CELLS - 1)


def _expand(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each index repeated `counts` times, and 0, 1, 2 ... within every run."""
    index = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return index, torch.arange(len(index), device=counts.device) - (counts.cumsum(0) - counts)[index]
