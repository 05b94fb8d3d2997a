"""What is drawn: triangles with texture coordinates, normals and a material."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from handface.model.render.texture import Texture


@dataclass(frozen=True)
class Material:
    """How a surface answers light."""

    texture: Texture
    specular: float = 0.25  # strength of the highlight
    scatter: float = 1.0  # how far diffuse light wraps past the terminator, 1 for skin, 0 for hard things


@dataclass(frozen=True)
class Mesh:
    """One thing to draw, in camera axes and metres.

    vertices: (V, 3).  faces: (F, 3) int; seen from outside the corners turn counter-clockwise (right-handed normals point out).
    uv: (U, 2) in [0, 1], v up.  face_uv: (F, 3) int rows of `uv`; None where faces index uv too.  normals: (V, 3) unit, outward.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    material: Material = field(default_factory=lambda: Material(Texture.plain((0.5, 0.5, 0.5))))
    uv: NDArray[np.float32] | None = None
    face_uv: NDArray[np.int64] | None = None
    normals: NDArray[np.float32] | None = None

    def corner_uv(self) -> NDArray[np.float32]:
        """Texture coordinates of every corner, (F, 3, 2); zeros where the mesh has none."""
        if self.uv is None:
            return np.zeros((len(self.faces), 3, 2), np.float32)
        return self.uv[self.faces if self.face_uv is None else self.face_uv].astype(np.float32, copy=False)


def vertex_normals(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> NDArray[np.float32]:
    """Area-weighted unit normals, (V, 3), of counter-clockwise triangles. vertices: (V, 3).  faces: (F, 3)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    total = np.stack([np.bincount(faces.T.ravel(), np.tile(normal[:, k], 3), len(vertices)) for k in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return (total / np.maximum(length, 1e-20)).astype(np.float32)
