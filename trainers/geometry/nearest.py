"""Distances whose gradient moves the points, with the search itself outside the graph."""

from __future__ import annotations

import torch

from handface.trainers.geometry.compact import take

_PAIRS = 1 << 24  # distances held at once
_CANDIDATES = 3  # nearest vertices whose triangles are looked at
_EXACT = "donot_use_mm_for_euclid_dist"  # the other way loses half of the digits at small distances


def nearest_vertex(points: torch.Tensor, targets: torch.Tensor, allowed: torch.Tensor | None = None) -> torch.Tensor:
    """Squared distance to the nearest target, (B, N) square metres, differentiable in both.

    points: (B, N, 3).  targets: (B, M, 3).  allowed: (B, M) bool, targets that count; where a sample has none, the result is that
    of an arbitrary target.
    """
    index = nearest_indices(points, targets, 1, allowed)[..., 0]
    return (points - take(targets, index)).square().sum(-1)


@torch.no_grad()
def nearest_indices(
    points: torch.Tensor, targets: torch.Tensor, count: int, allowed: torch.Tensor | None = None
) -> torch.Tensor:
    """The `count` nearest targets of each point, (B, N, count). Shapes as in `nearest_vertex`."""
    step = max(1, _PAIRS // max(1, len(points) * targets.shape[1]))
    found = []
    for chunk in points.split(step, 1):
        distance = torch.cdist(chunk, targets, compute_mode=_EXACT)
        if allowed is not None:
            distance = distance.masked_fill(~allowed[:, None], torch.inf)
        found.append(
            distance.argmin(-1, keepdim=True) if count == 1 else distance.topk(count, dim=-1, largest=False).indices
        )
    return torch.cat(found, 1)


def nearest_surface(
    points: torch.Tensor,
    vertices: torch.Tensor,
    faces: torch.Tensor,
    at_vertex: torch.Tensor,
    use: torch.Tensor | None = None,
) -> torch.Tensor:
    """Squared distance to the nearest point of the surface, (B, N) square metres, differentiable in points and vertices.

    The foot's barycentric weights are constants; the gradient is exact all the same, 2 (p - foot), because the foot is where they
    are best (envelope theorem).

    Args:
        points: (B, N, 3).
        vertices: (B, V, 3).
        faces: (F, 3).
        at_vertex: (V, D) from `vertex_faces`. The triangles at the 3 nearest vertices are looked at, which misses the true foot in
            under 0.5 % of cases and then by about a millimetre.
        use: (B, N) bool, points that are asked for; the others' result is 0. On the CPU nothing is done for them. None: all.
    """
    if use is not None and points.device.type == "cpu":
        found = points.new_zeros(points.shape[:2])
        rows = use.any(1).nonzero()[:, 0].tolist()
        squares = [nearest_surface(points[b, use[b]][None], vertices[b : b + 1], faces, at_vertex)[0] for b in rows]
        return found.masked_scatter(use, torch.cat(squares)) if rows else found
    with torch.no_grad():
        near = nearest_indices(points, vertices, _CANDIDATES)  # (B, N, k)
        face = at_vertex[near].flatten(2)  # (B, N, k D)
        corners = take(vertices, faces[face].flatten(1)).unflatten(1, (*face.shape[1:], 3))  # (B, N, k D, 3, 3)
        weights = closest_weights(points[:, :, None], corners)
        feet = (weights[..., None] * corners).sum(-2)
        best = (points[:, :, None] - feet).square().sum(-1).argmin(-1, keepdim=True)  # (B, N, 1)
        face = face.gather(2, best)[..., 0]  # (B, N)
        weights = weights.gather(2, best[..., None].expand(*best.shape, 3))[:, :, 0]  # (B, N, 3)
    corners = take(vertices, faces[face].flatten(1)).unflatten(1, (-1, 3))  # (B, N, 3, 3)
    square = (points - (weights[..., None] * corners).sum(-2)).square().sum(-1)
    return square if use is None else torch.where(use, square, 0.0)


def closest_weights(points: torch.Tensor, corners: torch.Tensor) -> torch.Tensor:
    """Barycentric weights (..., 3) of each triangle's point nearest to p. points: (..., 3).  corners: (..., 3, 3).

    The best of the foot on the plane, if it lies in the triangle, and the feet on the three edges.
    """
    a, b, c = corners.unbind(-2)
    points = points.expand(a.shape)
    tiny = torch.finfo(points.dtype).tiny
    ab, ac, ap = b - a, c - a, points - a
    d11, d12, d22 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    p1, p2 = (ab * ap).sum(-1), (ac * ap).sum(-1)
    area = (d11 * d22 - d12 * d12).clamp(min=tiny)
    v, w = (d22 * p1 - d12 * p2) / area, (d11 * p2 - d12 * p1) / area
    plane = torch.stack([1 - v - w, v, w], -1)
    zero = torch.zeros_like(v)
    t_ab = (p1 / d11.clamp(min=tiny)).clamp(0, 1)
    t_ac = (p2 / d22.clamp(min=tiny)).clamp(0, 1)
    bc = c - b
    t_bc = ((bc * (points - b)).sum(-1) / (bc * bc).sum(-1).clamp(min=tiny)).clamp(0, 1)
    edges = torch.stack(
        [
            torch.stack([1 - t_ab, t_ab, zero], -1),
            torch.stack([1 - t_ac, zero, t_ac], -1),
            torch.stack([zero, 1 - t_bc, t_bc], -1),
        ],
        -2,
    )  # (..., 3 edges, 3)
    square = (edges @ corners - points[..., None, :]).square().sum(-1)
    best = square.argmin(-1, keepdim=True)[..., None]
    edge = edges.gather(-2, best.expand(*best.shape[:-1], 3))[..., 0, :]
    return torch.where((plane >= 0).all(-1, keepdim=True), plane, edge)
