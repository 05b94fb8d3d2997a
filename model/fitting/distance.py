"""Signed distance to a closed triangle mesh: exact closest point among the nearest triangles, sign from pseudonormals.

The sign follows Baerentzen and Aanaes, Signed distance computation using the angle weighted pseudonormal (2005): the pseudonormal
of the closest feature (face, edge or vertex) tells inside from outside everywhere, also at sharp edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_NEXT = np.array([1, 2, 0])


@dataclass(frozen=True)
class Closest:
    """Closest surface points. distance: (N,) metres, negative inside.  point, normal: (N, 3), normal is unit and points outward.

    face: (N,) row of the mesh's faces.  weights: (N, 3) barycentrics in it.
    """

    distance: NDArray[np.float64]
    point: NDArray[np.float64]
    normal: NDArray[np.float64]
    face: NDArray[np.int64]
    weights: NDArray[np.float64]


def nearest_vertex(points: NDArray[np.floating], vertices: NDArray[np.floating], reach: float) -> NDArray[np.float64]:
    """Metres from each of (N, 3) points to the nearest of (V, 3) vertices, (N,); inf beyond `reach` metres.

    Of two bodies most is out of reach: only what lies in both boxes is looked at.
    """
    from scipy.spatial import cKDTree

    distance = np.full(len(points), np.inf)
    rows = np.flatnonzero(_in_box(points, vertices, reach))
    others = vertices[_in_box(vertices, points[rows], reach)] if len(rows) else vertices[:0]
    if len(others):
        distance[rows], _ = cKDTree(others).query(points[rows], distance_upper_bound=reach)
    return distance


def _in_box(points: NDArray[np.floating], others: NDArray[np.floating], reach: float) -> NDArray[np.bool_]:
    """Which of (N, 3) points lie in the box around the others (V, 3), `reach` larger all around."""
    inside = np.ones(len(points), bool)
    for low, high, column in zip(others.min(0) - reach, others.max(0) + reach, points.T, strict=True):
        inside &= (column > low) & (column < high)
    return inside


class FitSurface:
    """A closed mesh that can be asked for distances. vertices: (V, 3).  faces: (F, 3), counter-clockwise seen from outside."""

    def __init__(self, vertices: NDArray[np.floating], faces: NDArray[np.integer]) -> None:
        from scipy.spatial import cKDTree

        self.faces = faces
        self.corners = np.asarray(vertices, np.float64)[faces]
        cross = np.cross(self.corners[:, 1] - self.corners[:, 0], self.corners[:, 2] - self.corners[:, 0])
        self.face_normals = cross / np.maximum(np.linalg.norm(cross, axis=1, keepdims=True), 1e-30)
        self.vertex_normals = self._vertex_pseudonormals(len(vertices))
        self.tree = cKDTree(self.corners.mean(1))

    def closest(self, points: NDArray[np.floating], candidates: int = 16) -> Closest:
        """Closest surface point of each of (N, 3) points, exact over the `candidates` triangles whose centroids are nearest."""
        points = np.asarray(points, np.float64)
        _, near = self.tree.query(points, k=min(candidates, len(self.faces)))
        near = near.reshape(len(points), -1)
        corner = self.corners[near]
        weights = _closest_weights(points[:, None], corner)
        foot = np.einsum("nkc,nkcd->nkd", weights, corner)
        square = ((points[:, None] - foot) ** 2).sum(-1)
        best = square.argmin(1)
        rows = np.arange(len(points))
        face, weights, foot = near[rows, best], weights[rows, best], foot[rows, best]
        offset = points - foot
        pseudo = self._pseudonormal(face, weights)
        distance = np.sqrt(square[rows, best]) * np.where((offset * pseudo).sum(1) < 0, -1.0, 1.0)
        return Closest(distance, foot, pseudo, face, weights)

    def signed_distance(self, points: NDArray[np.floating], candidates: int = 16) -> NDArray[np.float64]:
        """Distance in metres of (N, 3) points, negative inside. Returns (N,)."""
        return self.closest(points, candidates).distance

    def _pseudonormal(self, face: NDArray, weights: NDArray) -> NDArray[np.float64]:
        """Unit normal of the closest feature: inside a face the face's own, on edges and corners the corners' mean."""
        on_rim = weights.min(1) < 1e-9
        normal = self.face_normals[face]
        if on_rim.any():
            rim = np.flatnonzero(on_rim)
            blend = np.einsum("nc,ncd->nd", weights[rim], self.vertex_normals[self.faces[face[rim]]])
            normal[rim] = blend / np.maximum(np.linalg.norm(blend, axis=1, keepdims=True), 1e-30)
        return normal

    def _vertex_pseudonormals(self, count: int) -> NDArray[np.float64]:
        """Face normals weighted by the angle at the vertex, unit, (V, 3)."""
        total = np.zeros((count, 3))
        for k in range(3):
            a = self.corners[:, _NEXT[k]] - self.corners[:, k]
            b = self.corners[:, _NEXT[_NEXT[k]]] - self.corners[:, k]
            sine = np.linalg.norm(np.cross(a, b), axis=1)
            angle = np.arctan2(sine, (a * b).sum(1))
            for axis in range(3):
                total[:, axis] += np.bincount(self.faces[:, k], angle * self.face_normals[:, axis], count)
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)


def _closest_weights(points: NDArray, corner: NDArray) -> NDArray[np.float64]:
    """Barycentrics of the closest points on triangles. points: (..., 3).  corner: (..., 3, 3). Returns (..., 3)."""
    a = corner[..., 0, :]
    ab, ac, ap = corner[..., 1, :] - a, corner[..., 2, :] - a, points - a
    d11, d12, d22 = _dot(ab, ab), _dot(ab, ac), _dot(ac, ac)
    p1, p2 = _dot(ab, ap), _dot(ac, ap)
    area = np.maximum(d11 * d22 - d12 * d12, 1e-30)
    v, w = (d22 * p1 - d12 * p2) / area, (d11 * p2 - d12 * p1) / area
    weights = np.stack([1 - v - w, v, w], -1)
    outside = np.flatnonzero((weights < 0).any(-1).ravel())
    if not len(outside):
        return weights
    flat = weights.reshape(-1, 3)
    v1, v2, q1, q2 = (x.reshape(-1)[outside] for x in (d11, d22, p1, p2))
    cross = d12.reshape(-1)[outside]
    along = [
        np.clip(q1 / np.maximum(v1, 1e-30), 0, 1),  # on ab
        np.clip(q2 / np.maximum(v2, 1e-30), 0, 1),  # on ac
        np.clip((v1 - cross - q1 + q2) / np.maximum(v1 - 2 * cross + v2, 1e-30), 0, 1),  # on bc
    ]
    zero = np.zeros_like(q1)
    ends = np.stack(
        [
            np.stack([1 - along[0], along[0], zero], -1),
            np.stack([1 - along[1], zero, along[1]], -1),
            np.stack([zero, 1 - along[2], along[2]], -1),
        ]
    )
    # |v ab + w ac - ap|^2 without |ap|^2, which all three share
    b, c = ends[..., 1], ends[..., 2]
    square = b * b * v1 + c * c * v2 + 2 * b * c * cross - 2 * b * q1 - 2 * c * q2
    flat[outside] = ends[square.argmin(0), np.arange(len(outside))]
    return weights


def _dot(a: NDArray, b: NDArray) -> NDArray[np.float64]:
    return np.einsum("...i,...i->...", a, b)
