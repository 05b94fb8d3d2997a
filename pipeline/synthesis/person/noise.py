"""Smooth random fields made once and shifted for every scene."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray


@cache
def _tile(height: int, width: int, sigma: float, seed: int) -> NDArray[np.float32]:
    """White noise blurred over `sigma` pixels with wrap-around, zero mean and unit deviation, (height, width)."""
    rng = np.random.default_rng([seed, height, width])
    spectrum = np.fft.rfft2(rng.normal(size=(height, width)))
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    field = np.fft.irfft2(spectrum * np.exp(-2 * (np.pi * sigma) ** 2 * (fy**2 + fx**2)), (height, width))
    field -= field.mean()
    return (field / field.std()).astype(np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, sigma: float) -> NDArray[np.float32]:
    """A field (height, width) of zero mean and unit deviation with features of about `sigma` pixels: a tile at a random place."""
    tile = _tile(height, width, float(sigma), int(rng.integers(3)))
    return np.roll(tile, (int(rng.integers(height)), int(rng.integers(width))), (0, 1))


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, layers: tuple[tuple[float, float], ...]
) -> NDArray[np.float32]:
    """Sum of smooth noise over (sigma in pixels, amplitude) layers, (height, width)."""
    total = np.zeros((height, width), np.float32)
    for sigma, amplitude in layers:
        total += np.float32(amplitude) * smooth_noise(rng, height, width, sigma)
    return total
