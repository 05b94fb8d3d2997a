"""Where on the face hands go: named regions around landmarks, drawn on the posed head."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.synthesis.person.bodies import free_head
from handface.pipeline.synthesis.touch.pose import TouchTarget

Array = NDArray[np.float64]
# How often each region is touched; cheeks, chin and mouth lead in everyday self-touch.
REGIONS: Mapping[str, float] = {
    "cheek": 3.0,
    "chin": 2.0,
    "lips": 2.0,
    "nose": 1.3,
    "jaw": 1.2,
    "forehead": 1.2,
    "temple": 1.0,
    "under_chin": 0.8,
    "eye": 0.8,
    "ear": 0.6,
}


@cache
def region_vertices() -> Mapping[str, NDArray[np.int64]]:
    """Outer skin vertices of each region on the template."""
    head = free_head()
    arrays, points = head.arrays, head.template_keypoints
    v = arrays.template.astype(np.float64)
    skin = np.zeros(len(v), bool)
    skin[np.unique(head.faces[head.skin_faces])] = True
    skin &= arrays.masks["cavity"] < 0.5
    from handface.model.render import vertex_normals

    normal = vertex_normals(v.astype(np.float32), head.faces)
    side = np.array([1.0, 1.0, 1.0])

    def around(centre: Array, radius: float, mirrored: bool = True) -> NDArray[np.bool_]:
        near = np.linalg.norm(v - centre * side, axis=1) < radius
        if mirrored:
            near |= np.linalg.norm(v - centre * [-1, 1, 1], axis=1) < radius
        return near & skin

    eye = points[36:42].mean(0)
    brow = points[17:22].mean(0)
    mouth, nose, chin = points[48:60].mean(0), points[30], points[8]
    cheek = np.array([0.62 * points[2, 0] + 0.38 * points[48, 0], (points[33, 1] + eye[1]) / 2 - 0.014, 0])
    flat = v * [1, 1, 0]
    cheeks = (np.linalg.norm(flat - cheek, axis=1) < 0.024) | (
        np.linalg.norm(flat - cheek * [-1, 1, 1], axis=1) < 0.024
    )
    front = normal[:, 2] > 0.15
    ears = arrays.masks["ears"] > 0.5
    return {
        name: np.flatnonzero(mask)
        for name, mask in {
            "cheek": cheeks & front & skin & ~ears,
            "chin": around(chin + np.array([0, 0.012, 0]), 0.022, False) & front,
            "under_chin": around(chin + np.array([0, -0.004, -0.022]), 0.022, False) & (normal[:, 1] < -0.5),
            "lips": around(mouth, 0.026, False) & front,
            "nose": around(nose + np.array([0, 0.006, 0]), 0.018, False) & front,
            "eye": around(eye, 0.018) & front,
            "forehead": around(np.array([0, brow[1] + 0.03, brow[2] + 0.01]), 0.042, False) & front,
            "temple": around(np.array([points[0, 0] * 0.93, brow[1] + 0.002, brow[2] - 0.045]), 0.026) & ~ears,
            "ear": ears & (np.abs(normal[:, 0]) > 0.35),
            "jaw": (around(points[4], 0.022) | around(points[3], 0.022)) & ~ears & (normal[:, 1] > -0.7),
        }.items()
    }


def draw_target(rng: np.random.Generator, vertices: Array, normals: Array, region: str) -> TouchTarget:
    """A place of a region on a posed head. vertices, normals: (V, 3). The hand is a right one: its own side is likelier."""
    rows = region_vertices()[region]
    weights = np.where(vertices[rows, 0] < 0.005, 1.0, 0.45)
    row = int(rng.choice(rows, p=weights / weights.sum()))
    near = rows[np.linalg.norm(vertices[rows] - vertices[row], axis=1) < 0.012]
    normal = normals[near].mean(0)
    return TouchTarget(vertices[row] + rng.normal(0, 0.001, 3), normal / np.linalg.norm(normal), region)
