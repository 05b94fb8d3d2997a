"""What is behind the person: gradients, soft noise, blurred blocks, or the user's own pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.model.render.texture import to_linear
from handface.pipeline.synthesis.person.noise import smooth_noise
from handface.pipeline.synthesis.scene.domain import Domain

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")


class BackgroundError(ValueError):
    """The folder of backgrounds cannot be used; the message names it and says what is missing."""


@cache
def background_files(folder: str) -> tuple[Path, ...]:
    """Pictures of a folder, sorted. Raises BackgroundError if there are none."""
    path = Path(folder)
    if not path.is_dir():
        raise BackgroundError(f"{folder}: no such folder of background pictures")
    files = tuple(sorted(p for p in path.iterdir() if p.suffix.lower() in EXTENSIONS))
    if not files:
        raise BackgroundError(f"{folder}: holds no pictures ({', '.join(EXTENSIONS)})")
    return files


def draw_background(
    rng: np.random.Generator, size: int, domain: Domain = Domain(), folder: str | None = None
) -> NDArray[np.float32]:
    """A backdrop (size, size, 3) in linear light; a plain domain's is a green screen."""
    if folder is not None:
        return _photo(rng, size, background_files(folder))
    if domain.plain:
        screen = np.array([0.05, 0.32, 0.08], np.float32)
        return np.broadcast_to(screen * np.float32(rng.uniform(0.85, 1.15)), (size, size, 3)).copy()
    kind = rng.choice(["gradient", "noise", "blocks"], p=[0.3, 0.35, 0.35])
    base = _wall_colour(rng)
    if kind == "gradient":
        return _gradient(rng, size, base, _wall_colour(rng))
    if kind == "noise":
        return _noise(rng, size, base)
    return _blocks(rng, size, base)


def _wall_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    grey = rng.uniform(0.03, 0.75)
    return np.clip(grey * (1 + rng.normal(0, 0.18, 3)), 0.005, 0.95).astype(np.float32)


def _gradient(
    rng: np.random.Generator, size: int, a: NDArray[np.float32], b: NDArray[np.float32]
) -> NDArray[np.float32]:
    y, x = np.mgrid[:size, :size].astype(np.float32) / size - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    t = np.clip(x * np.cos(angle) + y * np.sin(angle) + 0.5, 0, 1).astype(np.float32)[..., None]
    return a * (1 - t) + b * t


def _noise(rng: np.random.Generator, size: int, base: NDArray[np.float32]) -> NDArray[np.float32]:
    image = np.empty((size, size, 3), np.float32)
    shared = 0.35 * smooth_noise(rng, size, size, size * rng.choice([0.03, 0.06, 0.12]))
    for c in range(3):
        image[..., c] = base[c] * np.exp(shared + 0.12 * smooth_noise(rng, size, size, size * 0.1))
    return np.clip(image, 0, 1)


def _blocks(rng: np.random.Generator, size: int, base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Out-of-focus furniture: rectangles of other colours, drawn coarsely and blown up smoothly."""
    import cv2

    coarse = 32
    image: NDArray[Any] = np.tile(base, (coarse, coarse, 1))
    for _ in range(int(rng.integers(3, 9))):
        x0, y0 = rng.integers(-4, coarse - 2, 2)
        w, h = rng.integers(3, 18, 2)
        image[max(y0, 0) : max(y0 + h, 0), max(x0, 0) : max(x0 + w, 0)] = _wall_colour(rng)
    image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.5, 1.5)))
    return np.clip(cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC), 0, 1)


def _photo(rng: np.random.Generator, size: int, files: tuple[Path, ...]) -> NDArray[np.float32]:
    import cv2

    path = files[int(rng.integers(len(files)))]
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise BackgroundError(f"{path}: not a readable picture; remove it from the folder of backgrounds")
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(0.6, 1.0))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    crop = cv2.resize(image[y : y + side, x : x + side, ::-1], (size, size), interpolation=cv2.INTER_AREA)
    return to_linear(np.ascontiguousarray(crop))
