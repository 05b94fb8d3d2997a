"""Meshes over a picture: coloured by a value per vertex, mixed into what lies behind; bounded for meshes gone wild."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from handface.model.outputs.colours import Ramp, ramp_uv
from handface.model.prediction.prediction import Floats
from handface.model.render import Camera, DirectionalLight, Lighting, Material, Mesh, render
from handface.model.render.texture import to_linear, to_srgb

Image = NDArray[np.uint8]
LIGHTING = Lighting(
    lights=(
        DirectionalLight((-0.4, -0.6, -0.8), (1.0, 0.98, 0.95), 0.75),
        DirectionalLight((0.8, 0.1, -0.5), strength=0.25),
    ),
    sky=(0.45, 0.46, 0.48),
    ground=(0.26, 0.25, 0.25),
)
_MOST_FRAGMENTS = 2e7  # pixels of all triangles together, about 1 GB at work; a hand at a face has 2 to 4 per pixel


def ramp_mesh(vertices: Floats, faces: NDArray[np.int64], values: Floats, ramp: Ramp) -> Mesh:
    """A matt mesh. vertices: (V, 3).  faces: (F, 3).  values: (V,) in [0, 1] along the ramp."""
    return Mesh(vertices, faces, Material(ramp.texture(), specular=0.12, scatter=0.6), ramp_uv(values))


def draw_over(image: Image, meshes: Sequence[Mesh], camera: Camera, opacity: float) -> Image | None:
    """(H, W, 3) with the meshes over it; None if they cannot be drawn: not finite, or over the picture thousands of times."""
    if not all(np.isfinite(mesh.vertices).all() for mesh in meshes) or _fragments(meshes, camera) > _MOST_FRAGMENTS:
        return None
    picture = render(meshes, camera, LIGHTING, to_linear(image))
    share = opacity * (picture.coverage > 0)[..., None]
    return np.rint(image * (1 - share) + to_srgb(picture.colour) * share).astype(np.uint8)


def _fragments(meshes: Sequence[Mesh], camera: Camera) -> float:
    """At most how many pixels the triangles have: half of their boxes, cut at the picture's edges."""
    total = 0.0
    for mesh in meshes:
        corners = np.asarray(camera.project(mesh.vertices), np.float64)[mesh.faces]  # (F, 3, 2)
        limit = np.array([camera.width, camera.height], np.float64)
        sides = np.clip(corners.max(1), 0, limit) - np.clip(corners.min(1), 0, limit)
        total += float(sides.prod(1).sum()) / 2
    return total
