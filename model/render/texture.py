"""Textures in linear light: bilinear lookup in a pyramid of halved copies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Texture:
    """An RGB image in linear light. pixels: (H, W, 3) float32; row 0 is the top, at v = 1."""

    pixels: NDArray[np.float32]

    @classmethod
    def plain(cls, colour: tuple[float, float, float]) -> Texture:
        """One colour everywhere."""
        return cls(np.full((1, 1, 3), colour, np.float32))

    @cached_property
    def levels(self) -> list[NDArray[np.float32]]:
        """The image and its copies at 1/2, 1/4, ... of the size, so that small pictures do not alias."""
        levels = [np.ascontiguousarray(self.pixels, np.float32)]
        while min(levels[-1].shape[:2]) >= 2 and len(levels) < 8:
            top = levels[-1][: levels[-1].shape[0] // 2 * 2, : levels[-1].shape[1] // 2 * 2]
            levels.append((top[::2, ::2] + top[1::2, ::2] + top[::2, 1::2] + top[1::2, 1::2]) * np.float32(0.25))
        return levels

    def level_for(self, texels_per_pixel: float) -> int:
        """The pyramid level whose texels are about as large as pixels."""
        if not np.isfinite(texels_per_pixel) or texels_per_pixel <= 1:
            return 0
        return int(min(np.floor(np.log2(texels_per_pixel) + 0.5), len(self.levels) - 1))

    def sample(self, uv: NDArray[np.float32], level: int = 0) -> NDArray[np.float32]:
        """Bilinear colours, clamped at the border. uv: (N, 2) in [0, 1], v up. Returns (N, 3) float32."""
        image = self.levels[level]
        height, width = image.shape[:2]
        if height == width == 1:
            return np.broadcast_to(image[0, 0], (len(uv), 3))
        x = np.clip(uv[:, 0] * width - 0.5, 0, width - 1)
        y = np.clip((1 - uv[:, 1]) * height - 0.5, 0, height - 1)
        x0 = np.minimum(x.astype(np.int32), max(width - 2, 0))
        y0 = np.minimum(y.astype(np.int32), max(height - 2, 0))
        fx, fy = (x - x0)[:, None].astype(np.float32), (y - y0)[:, None].astype(np.float32)
        right, down = int(width > 1), width * int(height > 1)
        flat, corner = image.reshape(-1, 3), y0 * width + x0
        above = flat[corner] * (1 - fx) + flat[corner + right] * fx
        below = flat[corner + down] * (1 - fx) + flat[corner + down + right] * fx
        return above * (1 - fy) + below * fy


def to_linear(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """sRGB bytes to linear light in [0, 1] (IEC 61966-2-1). image: (..., 3) uint8."""
    table = np.arange(256) / 255.0
    table = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    return table.astype(np.float32)[image]


def to_srgb(linear: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Linear light to sRGB bytes, clipped to [0, 1] (IEC 61966-2-1). linear: (..., 3) float."""
    x = np.clip(linear, 0, 1).astype(np.float32, copy=False)
    encoded = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(np.maximum(x, 1e-6), 1 / 2.4) - 0.055)
    return (encoded * 255 + 0.5).astype(np.uint8)
