"""Where a hand that moves along its line of sight meets the skin: parallel lines against the triangles that face the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_CANDIDATES = 12  # triangles, seen along the line, whose centroids are nearest to a point
_EDGE = -1e-6  # barycentric weight from which a point lies in a triangle
_STEEPEST = 0.3  # cosine between line and normal; a glancing line is deep in the skin late


@dataclass(frozen=True)
class Meetings:
    """Lines through N points that meet the skin. offset: (N,) metres along the line.  cosine: (N,) of line and skin's normal.

    corners: (N, 3) vertices and weights: (N, 3) barycentrics of where they meet it.
    """

    offset: Array
    cosine: Array
    corners: NDArray[np.int64]
    weights: Array

    def first(self, depth: Array) -> float:
        """The least offset at which one of the points is as deep under the skin as depth (N,) says, metres; inf if none meets it."""
        return float((self.offset + depth / self.cosine).min(initial=np.inf))


def meet_skin(points: Array, ray: Array, vertices: Array, faces: NDArray[np.int64], back: float) -> Meetings:
    """First meeting of each point's line with the triangles (F, 3) that face against the ray.

    Args:
        points: (P, 3) metres.
        ray: (3,) unit, away from the camera.
        vertices: (V, 3) metres.
        faces: (F, 3), counter-clockwise seen from outside.
        back: metres against the ray from where on skin counts.
    """
    from scipy.spatial import cKDTree

    across = np.linalg.svd(ray[None])[2][1:]  # two axes at right angles to the ray
    corner = vertices[faces]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    cosine = -(normal @ ray) / np.maximum(np.linalg.norm(normal, axis=1), 1e-30)
    front = np.flatnonzero(cosine > 1e-3)
    none = Meetings(np.zeros(0), np.zeros(0), np.zeros((0, 3), np.int64), np.zeros((0, 3)))
    if not len(front) or not len(points):
        return none
    flat, depth = corner[front] @ across.T, corner[front] @ ray  # (F, 3, 2), (F, 3)
    place = points @ across.T
    _, near = cKDTree(flat.mean(1)).query(place, k=min(_CANDIDATES, len(front)))
    near = near.reshape(len(points), -1)
    weights = _barycentric(place, flat[near])
    offset = (weights * depth[near]).sum(2) - (points @ ray)[:, None]
    offset = np.where((weights.min(2) >= _EDGE) & (offset > -back), offset, np.inf)
    best = offset.argmin(1)
    rows = np.flatnonzero(np.isfinite(offset[np.arange(len(points)), best]))
    best = best[rows]
    face = front[near[rows, best]]
    return Meetings(offset[rows, best], np.maximum(cosine[face], _STEEPEST), faces[face], weights[rows, best])


def _barycentric(points: Array, corner: Array) -> Array:
    """Weights (P, K, 3) of points (P, 2) in the triangles (P, K, 3, 2)."""
    a = corner[:, :, 0]
    ab, ac, ap = corner[:, :, 1] - a, corner[:, :, 2] - a, points[:, None] - a
    area = ab[..., 0] * ac[..., 1] - ab[..., 1] * ac[..., 0]
    v = (ap[..., 0] * ac[..., 1] - ap[..., 1] * ac[..., 0]) / area
    w = (ab[..., 0] * ap[..., 1] - ab[..., 1] * ap[..., 0]) / area
    return np.stack([1 - v - w, v, w], -1)
