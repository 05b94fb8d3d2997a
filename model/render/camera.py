"""Cameras: points in camera axes (x right, y down, z forward, metres) to pixels whose centres are at integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Camera(Protocol):
    """What the rasteriser asks of a camera. Points are already in camera axes."""

    @property
    def width(self) -> int:
        """Image width in pixels."""

    @property
    def height(self) -> int:
        """Image height in pixels."""

    @property
    def near(self) -> float | None:
        """Distance of the near plane in metres; None for a parallel projection, which sees everything."""

    def project(self, points: Array) -> Array:
        """Pixels of points. points: (..., 3) metres. Returns (..., 2) x, y."""

    def rays(self, pixels: Array) -> tuple[Array, Array]:
        """Origins and directions (..., 3) of the lines seen at pixels (..., 2); the direction's z is 1."""

    def supersampled(self, factor: int) -> Camera:
        """The same view on a grid with `factor` times as many samples along each axis."""


@dataclass(frozen=True)
class PerspectiveCamera:
    """Pinhole: u = fx X/Z + cx, v = fy Y/Z + cy. intrinsics: (3, 3) float, pixels."""

    intrinsics: NDArray[np.float64]
    width: int
    height: int
    near: float = 0.01

    @classmethod
    def from_focal(cls, focal: float, width: int, height: int, near: float = 0.01) -> PerspectiveCamera:
        """Square pixels of focal length `focal`, the principal point in the middle of the image."""
        k = np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])
        return cls(k, width, height, near)

    def project(self, points: Array) -> Array:
        """Pixels of points. points: (..., 3) metres, z > 0. Returns (..., 2)."""
        k = self.intrinsics
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        return np.stack([(k[0, 0] * x + k[0, 1] * y) / z + k[0, 2], k[1, 1] * y / z + k[1, 2]], -1)

    def rays(self, pixels: Array) -> tuple[Array, Array]:
        """Origins (the camera) and directions, z = 1, of the rays seen at pixels (..., 2). Returns two (..., 3)."""
        k = self.intrinsics
        y = (pixels[..., 1] - k[1, 2]) / k[1, 1]
        x = (pixels[..., 0] - k[0, 2] - k[0, 1] * y) / k[0, 0]
        directions = np.stack([x, y, np.ones_like(x)], -1)
        return np.zeros_like(directions), directions

    def supersampled(self, factor: int) -> PerspectiveCamera:
        """The same view with `factor` x `factor` samples per pixel: sample centre s = (p + 1/2) factor - 1/2."""
        k = self.intrinsics * np.array([[factor], [factor], [1.0]])
        k[:2, 2] += (factor - 1) / 2
        return replace(self, intrinsics=k, width=self.width * factor, height=self.height * factor)


@dataclass(frozen=True)
class WeakPerspectiveCamera:
    """The camera of DICE: u = s X + tx, v = s Y + ty in pixels, depth Z + 1 (points are centred on the head's mean).

    From its three raw outputs c: s = 10 |c0|, tx = c1, ty = c2, on a crop of 224 pixels; a crop k times as large has k s, k tx, k ty.
    """

    scale: float  # pixels per metre
    offset: tuple[float, float]  # tx, ty in pixels
    width: int = 224
    height: int = 224
    depth_offset: float = 1.0  # metres added to Z where a depth is asked for

    near: float | None = None

    @classmethod
    def from_dice(cls, c: tuple[float, float, float], size: int = 224) -> WeakPerspectiveCamera:
        """The camera head's outputs, drawn on a square of `size` pixels."""
        k = size / 224
        return cls(10 * abs(c[0]) * k, (c[1] * k, c[2] * k), size, size)

    def project(self, points: Array) -> Array:
        """Pixels of points. points: (..., 3) metres. Returns (..., 2)."""
        return self.scale * points[..., :2] + np.asarray(self.offset, points.dtype)

    def rays(self, pixels: Array) -> tuple[Array, Array]:
        """Parallel rays along +z: origins at z = 0 and directions, each (..., 3)."""
        origins = np.concatenate(
            [(pixels - np.asarray(self.offset)) / self.scale, np.zeros_like(pixels[..., :1])], axis=-1
        )
        directions = np.zeros_like(origins)
        directions[..., 2] = 1
        return origins, directions

    def supersampled(self, factor: int) -> WeakPerspectiveCamera:
        """The same view with `factor` x `factor` samples per pixel."""
        shift = (factor - 1) / 2
        offset = (self.offset[0] * factor + shift, self.offset[1] * factor + shift)
        return replace(
            self, scale=self.scale * factor, offset=offset, width=self.width * factor, height=self.height * factor
        )
