"""What the network looks at: the square around one hand and face, a left hand's in the mirror, and the exact way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.names import FACE_KEYPOINTS, IBUG_MIRROR, KEYPOINTS
from handface.model.prediction.prediction import Detection, Floats
from handface.model.prediction.view import Box, crop_box, square

_BLACK = (0, 0, 0)  # outside the photo, as in the stored crops


@dataclass(frozen=True)
class Crop:
    """pixels: (S, S, 3) uint8 RGB, mirrored if side is left.  affine: (3, 3) unmirrored crop pixel -> photo pixel, centres at integers."""

    pixels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    side: Literal["left", "right"]


def person_box(detection: Detection, margin: float, width: int, height: int) -> Box:
    """The square of the photo that holds a person's face and hand: the same choice as for the stored crops."""
    face = detection.face_box or keypoint_box(detection.face)
    return crop_box(face, keypoint_box(detection.hand), margin, width, height)


def keypoint_box(keypoints: Floats) -> Box:
    """x0, y0, x1, y1 around the points (N, 3) of confidence above 0. Raises ValueError if there is none."""
    known = keypoints[keypoints[:, 2] > 0, :2]
    if not len(known) or not np.isfinite(known).all():
        raise ValueError("a detection needs a finite keypoint with a confidence above 0 for face and for hand")
    (x0, y0), (x1, y1) = known.min(0).tolist(), known.max(0).tolist()
    return x0, y0, x1, y1


def cut(image: NDArray[np.uint8], box: Box, side: Literal["left", "right"], size: int) -> Crop:
    """Cut a box out of a photo (H, W, 3) at the network's size."""
    view = square(image, box, size, border=_BLACK)
    pixels = view.pixels[:, ::-1] if side == "left" else view.pixels
    return Crop(np.ascontiguousarray(pixels), np.vstack([view.affine, [0.0, 0.0, 1.0]]), side)


def whole_crop(image: NDArray[np.uint8], side: Literal["left", "right"], size: int) -> Crop:
    """A picture that is a person's crop already, at the network's size; not square: around its centre."""
    height, width = image.shape[:2]
    half = max(width, height) / 2
    x, y = (width - 1) / 2, (height - 1) / 2
    return cut(image, (x - half, y - half, x + half, y + half), side, size)


def crop_points(crop: Crop, detection: Detection | None) -> Floats:
    """A detection's points where the network sees them: (89, 3) x, y in pixels of the crop, confidence.

    All zero where there is no detection, and of points that were not found or are no numbers.
    """
    points = np.zeros((KEYPOINTS, 3), np.float32)
    if detection is None:
        return points
    points[:] = np.concatenate([detection.face, detection.hand])
    ones = np.ones((len(points), 1))
    points[:, :2] = (np.hstack([points[:, :2], ones]) @ np.linalg.inv(crop.affine).T)[:, :2]
    if crop.side == "left":
        points[:, 0] = crop.pixels.shape[1] - 1 - points[:, 0]
        points[:FACE_KEYPOINTS] = points[list(IBUG_MIRROR)]
    points[~(np.isfinite(points).all(1) & (points[:, 2] > 0))] = 0
    return points


def as_rgb(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    """uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) -> (H, W, 3); alpha is laid on white. Raises ValueError for other arrays."""
    if image.dtype != np.uint8:
        raise ValueError(f"a picture must be uint8, 0 to 255, not {image.dtype}")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.size:
        raise ValueError(f"a picture has shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {image.shape}")
    pixels = np.asarray(image, np.uint8)
    if pixels.shape[2] == 1:
        return np.repeat(pixels, 3, 2)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.uint16)
        mixed = (pixels[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        return mixed.astype(np.uint8)
    return np.ascontiguousarray(pixels)
