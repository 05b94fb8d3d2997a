"""The authors' colour operations, one per picture (torchvision's meaning of each, in numpy and OpenCV)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from handface.trainers.data.config import ColourOperation

Picture = NDArray[np.uint8]  # (S, S, 3) RGB
_HALF_THE_TIME = (
    "posterise",
    "sharpness",
    "autocontrast",
    "equalise",
)  # torchvision's own p = 0.5, which the authors kept
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13


def vary_colour(image: Picture, operation: ColourOperation, rng: np.random.Generator) -> Picture:
    """Apply one operation with drawn strength; the last four leave every other picture alone."""
    if operation in _HALF_THE_TIME and rng.random() < 0.5:
        return image
    return _OPERATIONS[operation](image, rng)


def blur(image: Picture, rng: np.random.Generator) -> Picture:
    """Gaussian of 3 x 9 pixels, sigma 0.1 to 5."""
    return np.asarray(cv2.GaussianBlur(image, (3, 9), rng.uniform(0.1, 5)), np.uint8)


def jitter(image: Picture, rng: np.random.Generator) -> Picture:
    """Brightness times 0.5 to 1.5, hue by up to 0.3 of a turn."""
    brighter = cv2.convertScaleAbs(image, alpha=rng.uniform(0.5, 1.5))
    hsv = cv2.cvtColor(brighter, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(round(rng.uniform(-0.3, 0.3) * 256) % 256)  # hue is a byte and wraps as it should
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)


def posterise(image: Picture, rng: np.random.Generator) -> Picture:
    """Two bits per channel."""
    return image & np.uint8(0b11000000)


def sharpness(image: Picture, rng: np.random.Generator) -> Picture:
    """Sharpness factor 2: as far from the smoothed picture again."""
    smooth = cv2.filter2D(image, -1, _SMOOTH)
    return np.asarray(cv2.addWeighted(image, 2, smooth, -1, 0), np.uint8)


def autocontrast(image: Picture, rng: np.random.Generator) -> Picture:
    """Each channel stretched to 0..255."""
    return np.asarray(cv2.merge([_stretch(np.asarray(channel, np.uint8)) for channel in cv2.split(image)]), np.uint8)


def equalise(image: Picture, rng: np.random.Generator) -> Picture:
    """Each channel's histogram made flat."""
    return np.asarray(cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)]), np.uint8)


def _stretch(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(S, S) from its own range to 0..255; as it is where it has only one value."""
    low, high, _, _ = cv2.minMaxLoc(channel)
    if high == low:
        return channel
    table = np.clip((np.arange(256) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(channel, table), np.uint8)


_OPERATIONS = {
    "blur": blur,
    "jitter": jitter,
    "posterise": posterise,
    "sharpness": sharpness,
    "autocontrast": autocontrast,
    "equalise": equalise,
}
