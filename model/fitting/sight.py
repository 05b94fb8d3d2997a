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

    none = Meetings(np.zeros(0), np.zeros(0), np.zeros((0, 3), np.int64), np.zeros((0, 3)))
    if not len(points):
        return none
    first = np.linalg.svd(ray[None])[2][1]
    frame = np.stack(
        [first, np.cross(ray, first), ray]
    )  # two axes at right angles to the ray, so that they turn about it
    place, seen = points @ frame.T, vertices @ frame.T
    rows = _before(seen, faces, place[:, :2].min(0), place[:, :2].max(0))
    corner = seen[faces[rows]]  # (F, 3, 3)
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    cosine = -normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-30)
    front = np.flatnonzero(cosine > 1e-3)
    if not len(front):
        return none
    corner, cosine, rows = corner[front], cosine[front], rows[front]
    _, near = cKDTree((corner[:, 0, :2] + corner[:, 1, :2] + corner[:, 2, :2]) / 3).query(
        place[:, :2], k=min(_CANDIDATES, len(rows))
    )
    near = near.reshape(len(points), -1)
    weights = _barycentric(place[:, :2], corner[..., :2], near)
    depth = sum(weight * corner[:, k, 2][near] for k, weight in enumerate(weights))
    offset = depth - place[:, 2:]
    inside = np.minimum(np.minimum(*weights[:2]), weights[2]) >= _EDGE
    offset = np.where(inside & (offset > -back), offset, np.inf)
    best = offset.argmin(1)
    met = np.flatnonzero(np.isfinite(offset[np.arange(len(points)), best]))
    best = best[met]
    face = near[met, best]
    at = np.stack([weight[met, best] for weight in weights], 1)
    return Meetings(offset[met, best], np.maximum(cosine[face], _STEEPEST), faces[rows[face]], at)


def _before(seen: Array, faces: NDArray[np.int64], low: Array, high: Array) -> NDArray[np.int64]:
    """Rows of the triangles that overlap, across the line, the box from `low` to `high` (2,). seen: (V, 3), x and y across."""
    overlap = np.ones(len(faces), bool)
    for axis in range(2):
        a, b, c = seen[:, axis][faces.T]
        overlap &= (np.maximum(np.maximum(a, b), c) >= low[axis]) & (np.minimum(np.minimum(a, b), c) <= high[axis])
    return np.flatnonzero(overlap)


def _barycentric(points: Array, corner: Array, near: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Weights, each (P, K), of points (P, 2) in the triangles `near` (P, K) of corner (F, 3, 2)."""
    ab, ac = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    x, y = (points[:, axis, None] - corner[:, 0, axis][near] for axis in range(2))
    v = x * (ac[:, 1] / area)[near] - y * (ac[:, 0] / area)[near]
    w = y * (ab[:, 0] / area)[near] - x * (ab[:, 1] / area)[near]
    return 1 - v - w, v, w
