"""Other backgrounds behind people that come with a mask."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from handface.trainers.data.errors import DataError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


class Backgrounds:
    """A folder of pictures. `draw` cuts a random square from one of them."""

    def __init__(self, folder: str) -> None:
        """Raises DataError if the folder holds no pictures, or one that does not open."""
        from PIL import Image

        self.files = sorted(str(p) for p in Path(folder).rglob("*") if p.suffix.lower() in _SUFFIXES)
        if not self.files:
            raise DataError(f"{folder}: no pictures there to use as backgrounds ({', '.join(_SUFFIXES)})")
        for file in self.files:
            try:
                with Image.open(file):
                    pass
            except OSError as error:
                raise DataError(f"{file}: not a picture; take it out of the backgrounds") from error

    def draw(self, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
        """A random square, half to all of the shorter side, as (size, size, 3) uint8 RGB. Raises DataError naming a broken file."""
        file = self.files[int(rng.integers(len(self.files)))]
        image = cv2.imread(file, cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{file}: broken picture; take it out of the backgrounds")
        height, width = image.shape[:2]
        side = max(1, int(min(height, width) * rng.uniform(0.5, 1)))
        top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        square = image[top : top + side, left : left + side, ::-1]
        shrink = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(np.ascontiguousarray(square), (size, size), interpolation=shrink), np.uint8)


def put_behind(image: NDArray[np.uint8], mask: NDArray[np.uint8], background: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """image where mask (S, S) is 255, background where it is 0, mixed between. (S, S, 3) each."""
    share = np.repeat(mask[..., None].astype(np.float32) / 255, 3, 2)
    mixed = image * share + background * (1 - share)
    return np.asarray(mixed + 0.5).astype(np.uint8)
