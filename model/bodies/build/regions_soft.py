"""Soft region masks per vertex, from the grey textures of the wheel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from handface.model.bodies.build.region import SurfaceRegion
from handface.model.bodies.build.wheel import HumanData


def soft_masks(human: HumanData, region: SurfaceRegion, textures: Mapping[str, str]) -> dict[str, NDArray[np.float32]]:
    """name -> (V,) in [0, 1]: each texture looked up at a vertex's texture corners, the largest taken (seams have several)."""
    masks = {}
    for name, texture in textures.items():
        image = human.texture(texture).astype(np.float64) / 255
        height, width = image.shape
        at = np.stack([(1 - region.uv[:, 1]) * height - 0.5, region.uv[:, 0] * width - 0.5])
        value = np.clip(map_coordinates(image, at, order=1, mode="nearest"), 0, 1)
        mask = np.zeros(len(region.vertex_ids))
        np.maximum.at(mask, region.faces.ravel(), value[region.face_uv.ravel()])
        masks[name] = np.where(mask < 0.02, 0, mask).round(3).astype(np.float32)
    return masks
