"""A view of an image: a box of it, perhaps rotated or mirrored, at the size a network likes, and the way back; the crop of a person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """pixels: (h, w, 3) uint8 RGB.  affine: (2, 3) view pixel -> image pixel.  scale: image pixels per view pixel."""

    pixels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    mirrored: bool = False
    name: str = "whole"

    @property
    def scale(self) -> float:
        """Image pixels per view pixel (the affine is a similarity, perhaps mirrored)."""
        return float(np.sqrt(abs(np.linalg.det(self.affine[:, :2]))))

    def to_image(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """(N, 2) view pixels -> (N, 2) float32 image pixels."""
        return (points @ self.affine[:, :2].T + self.affine[:, 2]).astype(np.float32)


def whole(image: NDArray[np.uint8], max_side: int) -> View:
    """The whole image, shrunk to `max_side` where it is larger."""
    import cv2

    height, width = image.shape[:2]
    shrink = max(height, width) / max_side
    if shrink <= 1:
        return View(image, np.array([[1.0, 0, 0], [0, 1.0, 0]]))
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    scale_x, scale_y = width / size[0], height / size[1]
    affine = np.array([[scale_x, 0, (scale_x - 1) / 2], [0, scale_y, (scale_y - 1) / 2]])
    return View(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), affine)


def square(
    image: NDArray[np.uint8],
    box: Box,
    size: int,
    angle: float = 0.0,
    mirrored: bool = False,
    name: str = "crop",
    border: tuple[int, int, int] = (127, 127, 127),
) -> View:
    """A square view of side `size` around `box`, turned by `angle` degrees; outside the image it shows `border`."""
    import cv2

    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])
    side = max(box[2] - box[0], box[3] - box[1], 1.0)
    scale, turn = side / size, np.deg2rad(angle)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if mirrored:
        linear = linear @ np.diag([-1.0, 1.0])
    affine = np.column_stack([linear, centre - linear @ np.full(2, (size - 1) / 2)])
    if scale > 2:  # bilinear sampling would alias: shrink first
        shrunk = whole(image, max(1, round(max(image.shape[:2]) / scale)))
        inner = np.vstack([shrunk.affine, [0, 0, 1]])
        to_source = (np.linalg.inv(inner) @ np.vstack([affine, [0, 0, 1]]))[:2]
        source = shrunk.pixels
    else:
        to_source, source = affine, image
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(source, to_source, (size, size), flags=flags, borderValue=border)
    return View(np.asarray(pixels, np.uint8), affine, mirrored, name)


def expand_box(box: Box, factor: float) -> Box:
    """The square around the same centre whose side is `factor` times the box's longer side."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    half = max(box[2] - box[0], box[3] - box[1]) * factor / 2
    return x - half, y - half, x + half, y + half


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inter = width * height
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def crop_box(face: Box, hand: Box, margin: float, width: int, height: int) -> Box:
    """The square around what the photo shows of both boxes, moved into the photo where it fits.

    Where the margin would reach past the photo's shorter side it is given up, down to a tenth; only what is still larger
    leaves empty borders.
    """
    bounds = np.array([width, height], float)
    low = np.clip(np.minimum(face[:2], hand[:2]), 0, bounds)
    high = np.clip(np.maximum(face[2:], hand[2:]), 0, bounds)
    extent = float((high - low).max())
    side = max(min(extent * margin, float(bounds.min())), extent * min(margin, 1.1))
    centre = (low + high) / 2
    fits = side <= bounds
    centre = np.where(fits, np.clip(centre, side / 2 - 0.5, bounds - side / 2 - 0.5), centre)
    x0, y0 = (centre - side / 2).tolist()
    return x0, y0, x0 + side, y0 + side
