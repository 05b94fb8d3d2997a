"""Coarser meshes on a subset of the vertices, and the way back (as CoMA's sampling pyramids: quadric edge collapse)."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from handface.model.bodies.arrays import Level

_BOUNDARY_WEIGHT = 10.0  # keeps open rings (wrist, neck) in place
_LEAST_COSINE = 0.15  # a collapse may not tip a triangle further than this
_LENGTH_COST = 1e-9  # prefers short edges where the surface is flat


def build_levels(vertices: NDArray[Any], faces: NDArray[Any], counts: Sequence[int]) -> tuple[Level, ...]:
    """Nested levels with `counts` vertices, largest first. vertices: (V, 3).  faces: (F, 3)."""
    points, levels = np.asarray(vertices, np.float64), []
    collapse = _Collapse(points, faces)
    for count in counts:
        keep, coarse = collapse.run(count)
        corners, weights = nearest_on_mesh(points, points[keep], coarse)
        levels.append(
            Level(keep.astype(np.int32), coarse.astype(np.int32), corners.astype(np.int32), weights.astype(np.float32))
        )
    return tuple(levels)


class _Collapse:
    """Greedy half-edge collapse by quadric error (Garland and Heckbert 1997): a vertex moves onto its neighbour, so none is new."""

    def __init__(self, points: NDArray[np.float64], faces: NDArray[Any]) -> None:
        self.points, self.faces = points, [[int(v) for v in face] for face in faces]
        self.around: list[set[int]] = [set() for _ in points]
        for index, face in enumerate(self.faces):
            for vertex in face:
                self.around[vertex].add(index)
        self.quadric = self._quadrics()
        self.version = [0] * len(points)
        self.heap: list[tuple[float, int, int, int, int]] = []
        self.homogeneous = np.c_[points, np.ones(len(points))]
        for u, v in {(min(a, b), max(a, b)) for f in self.faces for a, b in zip(f, f[1:] + f[:1], strict=True)}:
            self._push(u, v)

    def _quadrics(self) -> NDArray[np.float64]:
        quadric = np.zeros((len(self.points), 4, 4))
        edges: dict[tuple[int, int], list[NDArray[np.float64]]] = defaultdict(list)
        for face in self.faces:
            a, b, c = self.points[face]
            normal = np.cross(b - a, c - a)
            area = float(np.linalg.norm(normal))
            normal = normal / max(area, 1e-15)
            plane = np.append(normal, -normal @ a)
            for vertex in face:
                quadric[vertex] += np.outer(plane, plane) * area
            for u, v in zip(face, face[1:] + face[:1], strict=True):
                edges[min(u, v), max(u, v)].append(normal)
        for (u, v), normals in edges.items():
            if len(normals) == 1:
                edge = self.points[v] - self.points[u]
                length = float(np.linalg.norm(edge))
                wall = np.cross(normals[0], edge / max(length, 1e-15))
                plane = np.append(wall, -wall @ self.points[u])
                quadric[[u, v]] += np.outer(plane, plane) * length**2 * _BOUNDARY_WEIGHT
        return quadric

    def _push(self, u: int, v: int) -> None:
        quadric = self.quadric[u] + self.quadric[v]
        at_u, at_v = (float(self.homogeneous[w] @ quadric @ self.homogeneous[w]) for w in (u, v))
        keep, remove = (u, v) if at_u <= at_v else (v, u)
        cost = min(at_u, at_v) + _LENGTH_COST * float(np.linalg.norm(self.points[u] - self.points[v]))
        heapq.heappush(self.heap, (cost, keep, remove, self.version[keep], self.version[remove]))

    def run(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Collapse until `count` vertices are left; returns (kept vertices, faces on them)."""
        left = sum(bool(faces) for faces in self.around)
        while left > count and self.heap:
            _, keep, remove, version_keep, version_remove = heapq.heappop(self.heap)
            fresh = self.version[keep] == version_keep and self.version[remove] == version_remove
            if fresh and self.around[keep] and self.around[remove] and self._allowed(keep, remove):
                self._collapse(keep, remove)
                left -= 1
        kept = np.array([vertex for vertex, faces in enumerate(self.around) if faces])
        row = np.full(len(self.points), -1)
        row[kept] = np.arange(len(kept))
        alive = sorted({face for vertex in kept for face in self.around[vertex]})
        return kept, row[np.array([self.faces[face] for face in alive])]

    def _neighbours(self, vertex: int) -> set[int]:
        return {v for face in self.around[vertex] for v in self.faces[face]} - {vertex}

    def _allowed(self, keep: int, remove: int) -> bool:
        """The link condition (the surface stays a manifold) and no triangle turned over."""
        shared = self.around[keep] & self.around[remove]
        if not shared or len(self._neighbours(keep) & self._neighbours(remove)) > len(shared):
            return False
        for face in self.around[remove] - shared:
            before = self._normal(self.faces[face])
            after = self._normal([keep if v == remove else v for v in self.faces[face]])
            if before @ after < _LEAST_COSINE * np.linalg.norm(before) * np.linalg.norm(after):
                return False
        return True

    def _normal(self, face: list[int]) -> NDArray[np.float64]:
        a, b, c = self.points[face]
        u, v = b - a, c - a
        return np.array([u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]])

    def _collapse(self, keep: int, remove: int) -> None:
        for face in list(self.around[remove]):
            if keep in self.faces[face]:
                for vertex in self.faces[face]:
                    self.around[vertex].discard(face)
            else:
                self.faces[face] = [keep if v == remove else v for v in self.faces[face]]
                self.around[keep].add(face)
        self.around[remove] = set()
        self.quadric[keep] += self.quadric[remove]
        self.version[keep] += 1
        for vertex in sorted(self._neighbours(keep)):
            self._push(min(keep, vertex), max(keep, vertex))


def nearest_on_mesh(
    points: NDArray[np.float64], vertices: NDArray[np.float64], faces: NDArray[np.int64], candidates: int = 40
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Nearest surface point of each query. points: (P, 3).  Returns corner vertices (P, 3) and barycentric weights (P, 3).

    Looks at the `candidates` triangles with the nearest centres; a point outside a triangle is clamped into it.
    """
    centres = vertices[faces].mean(1)
    _, near = cKDTree(centres).query(points, k=min(candidates, len(faces)))
    near = near.reshape(len(points), -1)
    a, b, c = (vertices[faces[near, k]] for k in range(3))
    u, v, w = b - a, c - a, points[:, None] - a
    uu, uv, vv, wu, wv = (np.einsum("pkc,pkc->pk", x, y) for x, y in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    scale = np.maximum(uu * vv - uv**2, 1e-18)
    second, third = (vv * wu - uv * wv) / scale, (uu * wv - uv * wu) / scale
    weights = np.clip(np.stack([1 - second - third, second, third], -1), 0, 1)
    weights /= weights.sum(-1, keepdims=True)
    distance = np.linalg.norm(
        a * weights[..., :1] + b * weights[..., 1:2] + c * weights[..., 2:] - points[:, None], axis=-1
    )
    best = distance.argmin(1)
    rows = np.arange(len(points))
    return faces[near[rows, best]], weights[rows, best]
