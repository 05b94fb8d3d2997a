"""A body's triangles closed to a surface with an inside, and which triangles meet at each vertex. Once per body, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies import BodyArrays

Faces = NDArray[np.int64]


def closed_faces(arrays: BodyArrays) -> Faces:
    """Triangles of the body and those that close its holes, (F + C, 3): its own caps, else a fan over every open ring (MANO, FLAME).

    Raises ValueError where the boundary is no set of simple rings.
    """
    faces = np.asarray(arrays.faces, np.int64)
    caps = np.asarray(arrays.caps, np.int64).reshape(-1, 3)
    if not len(caps):
        fans = [_fan(ring) for ring in boundary_rings(faces)]
        caps = np.concatenate(fans) if fans else caps
    return np.concatenate([faces, caps])


def boundary_rings(faces: Faces) -> list[Faces]:
    """Open boundaries of a consistently wound mesh, (R,) vertices each, in the direction of the faces' own edges.

    Raises ValueError if a vertex starts two boundary edges.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    size = int(faces.max()) + 1
    codes, opposite = edges[:, 0] * size + edges[:, 1], edges[:, 1] * size + edges[:, 0]
    border = edges[~np.isin(codes, opposite)]
    following = dict(border.tolist())
    if len(following) != len(border):
        raise ValueError("the mesh's boundary touches itself at a vertex, so its holes cannot be told apart")
    rings: list[Faces] = []
    while following:
        start = next(iter(following))
        ring = [start]
        while (vertex := following.pop(ring[-1], start)) != start:
            ring.append(vertex)
        rings.append(np.array(ring, np.int64))
    return rings


def _fan(ring: Faces) -> Faces:
    """Triangles (R - 2, 3) that close a ring; they run against it, as a neighbour's edges do."""
    return np.stack([np.full(len(ring) - 2, ring[0]), ring[2:], ring[1:-1]], 1)


def vertex_faces(faces: Faces, vertices: int) -> Faces:
    """Triangles at each vertex, (V, D): D the largest number at one vertex, rows filled up by repeating; 0 where there is none."""
    owner = faces.ravel()
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=vertices)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    slot = np.arange(counts.max())[None, :] % np.maximum(counts, 1)[:, None]
    rows = order[np.minimum(starts[:, None] + slot, len(order) - 1)] // 3
    return np.where(counts[:, None] > 0, rows, 0)
