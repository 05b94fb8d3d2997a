"""Lines parallel to the z axis against triangles: the arithmetic behind the inside test and the front surface."""

from __future__ import annotations

import torch

_TIE = -1e-30  # far below any edge function of metres that is not 0


def edge_functions(corners: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Twice the signed xy-areas of (b, c, p), (c, a, p), (a, b, p): all of one sign where p's z-line meets the triangle.

    corners: (..., 3, 3) a, b, c.  x, y: broadcast to (...). Two triangles that share an edge get exact opposites for it, so that
    no line slips through between them.
    """
    a, b, c = corners.unbind(-2)
    return _edge(b, c, x, y), _edge(c, a, x, y), _edge(a, b, x, y)


def _edge(start: torch.Tensor, end: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """A x + B y + C of the edge's line; A, B and C change sign exactly when the ends are swapped."""
    slope_x, slope_y = start[..., 1] - end[..., 1], end[..., 0] - start[..., 0]
    constant = start[..., 0] * end[..., 1] - end[..., 0] * start[..., 1]
    return torch.addcmul(torch.addcmul(constant, slope_y, y), slope_x, x)


def _left(start: torch.Tensor, end: torch.Tensor, side: torch.Tensor) -> torch.Tensor:
    """Which points lie left of an edge; one on its line counts to one direction of the edge only (the rasteriser's top-left rule)."""
    slope_x, slope_y = start[..., 1] - end[..., 1], end[..., 0] - start[..., 0]
    owns = (slope_x > 0) | ((slope_x == 0) & (slope_y > 0))
    return side > torch.where(owns, _TIE, 0.0).to(side.dtype)


def crossing(corners: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """How the ray from each point towards +z passes each triangle: +1 out of the body, -1 into it, 0 not at all.

    corners: (..., 3, 3), counter-clockwise seen from outside.  points: (..., 3). Returns their broadcast (...), in the points' dtype.
    """
    x, y, z = points.unbind(-1)
    a, b, c = corners.unbind(-2)
    u, v, w = edge_functions(corners, x, y)
    left = (_left(b, c, u), _left(c, a, v), _left(a, b, w))
    outward = left[0] & left[1] & left[2]
    inward = ~(left[0] | left[1] | left[2])
    area = u + v + w
    above = u * a[..., 2] + v * b[..., 2] + w * c[..., 2] - z * area  # (height of the triangle at p - z) * area
    return ((outward & (above > 0)).to(points.dtype)) - (inward & (above < 0)).to(points.dtype)
