"""Exact signed distance to a triangle mesh, on the points' own device."""

from __future__ import annotations

import torch

from handface.trainers.geometry import winding_number

_FIRST = 32  # candidate triangles per point of the first round
_EXACT = "donot_use_mm_for_euclid_dist"  # the other way loses half of the digits at small distances
_MOST = 512  # candidates per point at most
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


def surface_distance(
    points: torch.Tensor,
    vertices: torch.Tensor,
    faces: torch.Tensor,
    within: float | None = None,
    always: torch.Tensor | None = None,
) -> torch.Tensor:
    """Distance to the surface, metres. points: (N, 3).  vertices: (V, 3).  faces: (F, 3). Returns (N,).

    Triangles are visited in the order of a lower bound (distance to the centroid minus the triangle's radius) until the bound
    passes the best distance, so that the result is exact; but 512 of them at most, which only meshes of an untrained network,
    torn into long triangles, would need more of. There it may be too large.
    within: metres; of points farther away than this, unless `always` (N,) bool holds, a lower bound above it is good enough, which costs
    a tenth. None: every distance is exact.
    """
    corners = vertices[faces]
    centre = corners.mean(1)
    radius = (corners - centre[:, None]).norm(dim=-1).amax(1)
    result = points.new_full((len(points),), torch.inf)
    wanted = torch.arange(len(points), device=points.device)
    if within is not None:
        always = torch.zeros_like(wanted, dtype=torch.bool) if always is None else always
        gap = torch.maximum(corners.amin((0, 1)) - points, points - corners.amax((0, 1))).clamp(min=0).norm(dim=1)
        result = gap  # to the mesh's box
        wanted = ((gap <= within) | always).nonzero()[:, 0]
    for rows in wanted.split(max(1, _CHUNK // max(1, len(faces)))):
        bound = torch.cdist(points[rows], centre, compute_mode=_EXACT) - radius
        open_rows, count = torch.arange(len(rows), device=points.device), min(_FIRST, len(faces))
        if within is not None and always is not None:
            least = bound.amin(1)
            result[rows] = least
            open_rows = ((least <= within) | always[rows]).nonzero()[:, 0]
        while len(open_rows):
            near, index = bound[open_rows].topk(count, dim=1, largest=False)
            best = closest_on_triangles(points[rows[open_rows], None], corners[index]).amin(1)
            result[rows[open_rows]] = best
            if count in (len(faces), _MOST):
                break
            open_rows = open_rows[best > near[:, -1]]
            count = min(4 * count, len(faces), _MOST)
    return result


def solid_angle(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
    """What triangles add to the generalised winding number of each point: their solid angle over 4 pi, positive seen from inside.

    points: (N, 3).  vertices: (V, 3).  faces: (F, 3). Returns (N,). Van Oosterom 1983; Jacobson 2013, eq. 5.
    """
    offset = vertices[faces][None] - points[:, None, None]  # (N, F, 3, 3)
    a, b, c = offset.unbind(2)
    la, lb, lc = offset.norm(dim=-1).unbind(2)
    volume = (a * torch.linalg.cross(b, c)).sum(-1)
    cosine = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return torch.atan2(volume, cosine).sum(1) / (2 * torch.pi)


def inside_depth(
    points: torch.Tensor,
    vertices: torch.Tensor,
    faces: torch.Tensor,
    caps: torch.Tensor,
    within: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed distance, POSITIVE INSIDE, to the mesh as it is and to the mesh closed by its caps; (N,) each, metres.

    points: (N, 3).  vertices: (V, 3).  faces: (F, 3).  caps: (C, 3) triangles that close its holes. Inside is a winding number
    above 1/2; the open mesh's is the closed one's, a whole number, less what the caps add to it.
    within: metres; of points outside that are farther away, the distance may be too small, but above it. None: all are exact.
    """
    turns = winding_number(points[None], vertices[None], torch.cat([faces, caps]))[0]
    open_turns = turns - solid_angle(points, vertices, caps) if len(caps) else turns
    distance = surface_distance(points, vertices, faces, within, (turns > 0.5) | (open_turns > 0.5))
    if not len(caps):
        signed = _signed(distance, turns)
        return signed, signed
    closed = torch.minimum(distance, surface_distance(points, vertices, caps, within, turns > 0.5))
    return _signed(distance, open_turns), _signed(closed, turns)


def _signed(distance: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    return torch.where(turns > 0.5, distance, -distance)
