"""Cutting triangles at the near plane, so that what lies partly behind the camera still shows its front part."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def clip_near(
    points: NDArray[np.float64], faces: NDArray[np.int64], near: float
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Triangles in front of z = near. points: (V, 3).  faces: (F, 3).

    Returns corners (T, 3, 3), the face each comes from (T,), and for the last C triangles, which are pieces of cut faces, their
    corners' barycentrics in that face (C, 3, 3).
    """
    inside = (points[:, 2] > near)[faces]
    count = inside.sum(1)
    whole = np.flatnonzero(count == 3)
    if len(whole) == len(faces) or not ((count == 1) | (count == 2)).any():
        return points[faces[whole]], whole, np.zeros((0, 3, 3))
    pieces, parents = [], []
    for face in np.flatnonzero((count == 1) | (count == 2)):
        polygon = _cut(points[faces[face], 2] - near)
        for k in range(1, len(polygon) - 1):
            pieces.append(polygon[[0, k, k + 1]])
            parents.append(face)
    corners, parent = np.array(pieces), np.array(parents)
    cut = np.einsum("tck,tkj->tcj", corners, points[faces[parent]])
    return np.concatenate([points[faces[whole]], cut]), np.concatenate([whole, parent]), corners


def _cut(height: NDArray[np.float64]) -> NDArray[np.float64]:
    """Barycentrics (3 or 4, 3), in order around, of the part of a triangle whose signed height over the plane is positive."""
    polygon = []
    for k in range(3):
        a, b = height[k], height[(k + 1) % 3]
        here, there = np.eye(3)[k], np.eye(3)[(k + 1) % 3]
        if a > 0:
            polygon.append(here)
        if (a > 0) != (b > 0):
            t = a / (a - b)
            polygon.append(here * (1 - t) + there * t)
    return np.array(polygon)
