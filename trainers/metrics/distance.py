"""Exact signed distance to a triangle mesh, on the points' own device."""

from __future__ import annotations

import torch

_FIRST = 32  # candidate triangles per point of the first round
_EXACT = "donot_use_mm_for_euclid_dist"  # the other way loses half of the digits at small distances
_CHUNK = 1 << 22  # point-triangle pairs held at once


def closest_on_triangles(points: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Distance of points to triangles, pair by pair. points: (..., 3).  corners: (..., 3, 3). Returns (...)."""
    a, b, c = corners.unbind(-2)
    ab, ac, ap = b - a, c - a, points - a
    d11, d12, d22 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    p1, p2 = (ab * ap).sum(-1), (ac * ap).sum(-1)
    area = d11 * d22 - d12 * d12
    safe = area.clamp(min=torch.finfo(points.dtype).tiny)
    v, w = (d22 * p1 - d12 * p2) / safe, (d11 * p2 - d12 * p1) / safe
    inside = (v >= 0) & (w >= 0) & (v + w <= 1) & (area > 0)
    plane = (ap - v[..., None] * ab - w[..., None] * ac).square().sum(-1)
    edges = torch.stack([_to_segment(ap, ab), _to_segment(ap, ac), _to_segment(points - b, c - b)]).amin(0)
    return torch.where(inside, plane, edges).clamp(min=0).sqrt()


def _to_segment(offset: torch.Tensor, edge: torch.Tensor) -> torch.Tensor:
    """Squared distance of points at `offset` from a segment's start."""
    along = (offset * edge).sum(-1) / edge.square().sum(-1).clamp(min=torch.finfo(edge.dtype).tiny)
    return (offset - along.clamp(0, 1)[..., None] * edge).square().sum(-1)


def surface_distance(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """Distance to the surface, metres. points: (N, 3).  vertices: (V, 3).  faces: (F, 3). Returns (N,).

    Triangles are visited in the order of a lower bound (distance to the centroid minus the triangle's radius) until the bound
    passes the best distance, so that the result is exact.
    """
    corners = vertices[faces]
    centre = corners.mean(1)
    radius = (corners - centre[:, None]).norm(dim=-1).amax(1)
    result = points.new_full((len(points),), torch.inf)
    for rows in torch.arange(len(points), device=points.device).split(max(1, _CHUNK // max(1, len(faces)))):
        bound = torch.cdist(points[rows], centre, compute_mode=_EXACT) - radius
        open_rows, count = torch.arange(len(rows), device=points.device), min(_FIRST, len(faces))
        while len(open_rows):
            near, index = bound[open_rows].topk(count, dim=1, largest=False)
            best = closest_on_triangles(points[rows[open_rows], None], corners[index]).amin(1)
            result[rows[open_rows]] = best
            if count == len(faces):
                break
            open_rows = open_rows[best > near[:, -1]]
            count = min(4 * count, len(faces))
    return result


def winding_number(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """How often the surface turns around each point: 1 inside a closed mesh that faces outwards, 0 outside; in between near holes.

    points: (N, 3).  vertices: (V, 3).  faces: (F, 3). Returns (N,). Jacobson 2013, eq. 5; solid angles after van Oosterom 1983.
    """
    result = points.new_zeros(len(points))
    if not len(faces):
        return result
    for rows in torch.arange(len(points), device=points.device).split(max(1, _CHUNK // (4 * len(faces)))):
        offset = vertices[None] - points[rows, None]  # (n, V, 3)
        length = offset.norm(dim=-1)
        a, b, c = (offset[:, faces[:, k]] for k in range(3))
        la, lb, lc = (length[:, faces[:, k]] for k in range(3))
        volume = (a * torch.linalg.cross(b, c)).sum(-1)
        angle = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
        result[rows] = torch.atan2(volume, angle).sum(1) / (2 * torch.pi)
    return result


def inside_depth(
    points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor, caps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed distance, POSITIVE INSIDE, to the mesh as it is and to the mesh closed by its caps; (N,) each, metres.

    points: (N, 3).  vertices: (V, 3).  faces: (F, 3).  caps: (C, 3) triangles that close its holes.
    """
    distance, turns = surface_distance(points, vertices, faces), points.new_zeros(len(points))
    low, high = vertices.amin(0), vertices.amax(0)
    within = ((points > low) & (points < high)).all(1).nonzero()[:, 0]  # nothing else can be inside
    turns[within] = winding_number(points[within], vertices, faces)
    closed, closed_turns = distance, turns.clone()
    if len(caps):
        closed = torch.minimum(distance, surface_distance(points, vertices, caps))
        closed_turns[within] += winding_number(points[within], vertices, caps)
    return _signed(distance, turns), _signed(closed, closed_turns)


def _signed(distance: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    return torch.where(turns > 0.5, distance, -distance)
