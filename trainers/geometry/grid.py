"""Which triangles may lie over which points: a grid over x and y, for devices where sizes cost nothing to know."""

from __future__ import annotations

import torch

_CELLS = 48  # per axis


@torch.no_grad()
def candidates(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs of a point and a triangle whose box reaches into the point's cell: every pair that meets in the xy plane, and few others.

    points: (B, N, 2 or 3).  vertices: (B, V, 3).  faces: (F, 3). Returns (P,) rows of points (B N) and (P,) rows of triangles (B F).
    """
    batch, device = len(points), points.device
    low, high = vertices[..., :2].amin(1, keepdim=True), vertices[..., :2].amax(1, keepdim=True)
    size = ((high - low) / _CELLS).clamp(min=torch.finfo(points.dtype).tiny)  # (B, 1, 2)
    sample = torch.arange(batch, device=device)[:, None]

    corners = vertices[..., :2][:, faces]  # (B, F, 3, 2)
    first, last = _cell(corners.amin(2), low, size).flatten(0, 1), _cell(corners.amax(2), low, size).flatten(0, 1)
    spans = last - first + 1  # (B F, 2) cells that each triangle's box covers
    triangle, place = _expand(spans.prod(-1))
    column, row = first[triangle, 0] + place % spans[triangle, 0], first[triangle, 1] + place // spans[triangle, 0]
    cell = (triangle // len(faces) * _CELLS + row) * _CELLS + column
    order = cell.argsort(stable=True)
    held = torch.bincount(cell, minlength=batch * _CELLS * _CELLS)
    starts = held.cumsum(0) - held

    within = ((points[..., :2] >= low) & (points[..., :2] <= high)).all(-1)
    where = _cell(points[..., :2], low, size)
    mine = ((sample * _CELLS + where[..., 1]) * _CELLS + where[..., 0]).flatten()
    point, place = _expand(torch.where(within.flatten(), held[mine], 0))
    return point, triangle[order[starts[mine[point]] + place]]


def _cell(position: torch.Tensor, low: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    return ((position - low) / size).floor().long().clamp(0, _CELLS - 1)


def _expand(counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each index repeated `counts` times, and 0, 1, 2 ... within every run."""
    index = torch.arange(len(counts), device=counts.device).repeat_interleave(counts)
    return index, torch.arange(len(index), device=counts.device) - (counts.cumsum(0) - counts)[index]
