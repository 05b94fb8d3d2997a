"""Rotated rectangles of a picture: cut out for a network, and the way back for what the network finds.

Coordinates here are continuous as MediaPipe's are: a picture W pixels wide spans 0 to W, its first pixel's centre is at 0.5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from handface.model.prediction.view import Box

if TYPE_CHECKING:
    from numpy.typing import NDArray

# wrist, knuckles and the middle of fingers
_NO_TIPS = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
_OPENCV_SIDE = 32_000  # its warps take no picture of 32,767 pixels or more on a side


@dataclass(frozen=True)
class Region:
    """A rectangle in picture pixels: centre, size, rotation in radians (clockwise on screen), perhaps seen in a mirror."""

    x: float
    y: float
    width: float
    height: float
    rotation: float = 0.0
    mirrored: bool = False

    def affine(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """(2, 3): crop coordinates (0 to width, 0 to height of `size`) -> picture coordinates."""
        cos, sin = math.cos(self.rotation), math.sin(self.rotation)
        x_step, y_step = self.width / size[0], self.height / size[1]
        linear = np.array([[cos * x_step, -sin * y_step], [sin * x_step, cos * y_step]])
        if self.mirrored:
            linear[:, 0] *= -1
        return np.column_stack([linear, np.array([self.x, self.y]) - linear @ np.array(size) / 2])

    def to_picture(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., 2) relative coordinates in the crop (0 to 1) -> picture coordinates."""
        affine = self.affine((1, 1))
        return (points @ affine[:, :2].T + affine[:, 2]).astype(np.float32)

    def place(self, inner: Region) -> Region:
        """A region given relative to this one's width, whose own pixels are square -> the same region of the picture."""
        x, y = self.to_picture(np.array([inner.x, inner.y * self.width / self.height], np.float32)).tolist()
        turn = -inner.rotation if self.mirrored else inner.rotation
        scale = self.width
        return Region(
            x, y, inner.width * scale, inner.height * scale, self.rotation + turn, self.mirrored != inner.mirrored
        )

    def grow(self, factor: float) -> Region:
        """The square about the same centre with `factor` times the longer side."""
        side = max(self.width, self.height) * factor
        return replace(self, width=side, height=side)

    def bounds(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 as if it were not rotated."""
        return (
            self.x - self.width / 2,
            self.y - self.height / 2,
            self.x + self.width / 2,
            self.y + self.height / 2,
        )


class NetworkPicture:
    """A picture (H, W, 3) uint8 RGB to cut regions from, with a smaller copy for crops that would skip most of its pixels.

    Args:
        image: the picture.
        max_side: of the smaller copy; None makes none, as in MediaPipe's own graphs.
    """

    def __init__(self, image: NDArray[np.uint8], max_side: int | None = None) -> None:
        self.height, self.width = image.shape[:2]
        self.large = _shrink(image, _OPENCV_SIDE)
        self.small = self.large if max_side is None else _shrink(self.large, max_side)

    def whole(self) -> Region:
        """All of it, widened on its shorter side to a square."""
        side = max(self.width, self.height)
        return Region(self.width / 2, self.height / 2, side, side)

    def cut_out(self, region: Region, size: tuple[int, int], replicate: bool = False) -> NDArray[np.uint8]:
        """The region as (size[1], size[0], 3).

        Outside the picture it is black, or repeats the picture's edge. Sampled as MediaPipe does: bilinear, crop pixel i
        at i / size of the region.
        """
        import cv2

        pixels = self.small if region.width > 2 * size[0] else self.large
        scale = np.array([[pixels.shape[1] / self.width], [pixels.shape[0] / self.height]])
        border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cut = cv2.warpAffine(pixels, region.affine(size) * scale, size, flags=flags, borderMode=border)
        return np.asarray(cut, np.uint8)


def square_region(box: Box) -> Region:
    """A square box as a region."""
    return Region((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1])


def _shrink(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    import cv2

    height, width = image.shape[:2]
    if max(height, width) <= max_side:
        return image
    scale = max_side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def turned_region(
    box: NDArray[np.float32],
    start: NDArray[np.float32],
    end: NDArray[np.float32],
    upright: float,
    growth: float,
    shift: float = 0.0,
) -> Region:
    """The square that MediaPipe cuts out around a detection.

    Args:
        box: (4,) x0, y0, x1, y1 of the detection, in pixels.
        start: (2,) a keypoint; with `end` it says how the detection is turned.
        end: (2,) the other keypoint.
        upright: angle of start -> end in an upright crop, in radians, counter-clockwise on screen.
        growth: side of the square / longer side of the box.
        shift: how far the centre moves down the crop, in box heights.
    """
    rotation = upright - math.atan2(-(end[1] - start[1]), end[0] - start[0])
    rotation -= 2 * math.pi * math.floor((rotation + math.pi) / (2 * math.pi))
    width, height = float(box[2] - box[0]), float(box[3] - box[1])
    x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
    x, y = x - height * shift * math.sin(rotation), y + height * shift * math.cos(rotation)
    side = max(width, height) * growth
    return Region(x, y, side, side, rotation)


def hand_region(points: NDArray[np.float32]) -> Region:
    """The square that MediaPipe cuts out around a hand it has seen before, upright in the crop.

    Args:
        points: (21, 2) the hand, in pixels of the picture.
    """
    knuckles = (points[[5, 13]].mean(0) + points[9]) / 2
    right, up = (float(v) for v in (knuckles - points[0]) * (1, -1))
    rotation = math.atan2(right, up)
    linear = Region(0, 0, 1, 1, rotation).affine((1, 1))[:, :2]
    inner = points[list(_NO_TIPS)] @ linear
    low, high = inner.min(0), inner.max(0)
    x, y = linear @ ((low + high) / 2 - (0, 0.1 * (high[1] - low[1])))
    side = 2 * float((high - low).max())
    return Region(float(x), float(y), side, side, rotation)
