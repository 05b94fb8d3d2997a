"""Where texels lie on a body: positions and masks baked from the mesh into its texture, once per process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.render import NOTHING, WeakPerspectiveCamera, rasterize


@dataclass(frozen=True)
class Atlas:
    """One window of a body's texture space.

    faces: (F, 3) vertex rows, uv: (U, 2) in the window and face_uv: (F, 3), of the faces drawn with this texture.
    texel_face: (H, W) int32 and texel_weights: (H, W, 3): what each texel shows; every texel is filled from its nearest covered one.
    """

    faces: NDArray[np.int64]
    uv: NDArray[np.float32]
    face_uv: NDArray[np.int64]
    texel_face: NDArray[np.int32]
    texel_weights: NDArray[np.float32]

    def bake(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Values at vertices (V, ...) interpolated to texels (H, W, ...)."""
        corner = np.asarray(values, np.float32)[self.faces[self.texel_face]]
        return np.einsum("hwc,hwc...->hw...", self.texel_weights, corner)


def make_atlas(
    faces: NDArray[np.integer], uv: NDArray[np.floating], face_uv: NDArray[np.integer], height: int, width: int
) -> Atlas:
    """An atlas over the bounding box of the given faces' texture coordinates. faces, face_uv: (F, 3).  uv: (T, 2)."""
    from scipy.ndimage import distance_transform_edt

    used = uv[np.unique(face_uv)]
    low, high = used.min(0) - 1e-3, used.max(0) + 1e-3
    window = ((uv - low) / (high - low)).astype(np.float32)
    flat = np.column_stack([window * [width, -height], np.zeros(len(window))]).astype(np.float32)
    # the centre of texel i lies at (i + 1/2) / size
    buffers = rasterize(
        flat, np.asarray(face_uv, np.int64), WeakPerspectiveCamera(1.0, (-0.5, height - 0.5), width, height)
    )
    empty = buffers.face == NOTHING
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return Atlas(
        np.asarray(faces, np.int64),
        window,
        np.asarray(face_uv, np.int64),
        buffers.face[tuple(nearest)],
        buffers.barycentric[tuple(nearest)],
    )
