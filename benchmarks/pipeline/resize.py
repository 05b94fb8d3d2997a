"""How pictures are made smaller when the crawl re-encodes them: CPU, likeness and bytes of each way.

    python -m benchmarks.pipeline.resize [--photos FOLDER] [--sides 512 256 128]

Likeness is the PSNR against the original resized in floating point with Lanczos' filter, after JPEG encoding.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.pipeline.crawl import _pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Config:
    """What to measure on."""

    photos: Path | None = None
    """Folder of JPEGs; pictures made for the crawl's benchmark without."""
    sides: tuple[int, ...] = (512, 256, 128)
    """Longer sides to shrink to."""
    repeats: int = 5
    """Rounds, ways in turn; the least CPU time counts."""


def main(config: Config) -> int:
    """Print a table. Returns 0."""
    import cv2

    cv2.setNumThreads(1)
    pictures = [path.read_bytes() for path in sorted(config.photos.glob("*.jpg"))] if config.photos else _pictures(32)
    print("| longer side | way | CPU ms | PSNR dB | least dB | kB |\n|---|---|---:|---:|---:|---:|")
    for side in config.sides:
        ways = {"area": _by_area, "as the crawl does": _as_the_crawl}
        least: dict[str, float] = {}
        for _ in range(config.repeats):
            for name, way in ways.items():
                start = time.process_time()
                for picture in pictures:
                    way(picture, side)
                spent = 1000 * (time.process_time() - start) / len(pictures)
                least[name] = min(least.get(name, spent), spent)
        for name, way in ways.items():
            made = [way(picture, side) for picture in pictures]
            likeness = [_psnr(picture, small) for picture, small in zip(pictures, made, strict=True)]
            size = sum(map(len, made)) / len(made) / 1000
            print(
                f"| {side} | {name} | {least[name]:.2f} | {np.mean(likeness):.2f} | {min(likeness):.2f} | {size:.1f} |"
            )
    return 0


def _by_area(data: bytes, side: int) -> bytes:
    import cv2
    import simplejpeg

    image = simplejpeg.decode_jpeg(data)
    scale = side / max(image.shape[:2])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    encoded: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(small), 95, colorsubsampling="420")
    return encoded


def _as_the_crawl(data: bytes, side: int) -> bytes:
    from handface.pipeline.fetch.original import KeepConfig, make_original

    return make_original(data, KeepConfig(mode="reencode", max_side=side)).data


def _psnr(original: bytes, small: bytes) -> float:
    import simplejpeg
    from PIL import Image

    found: NDArray[np.uint8] = simplejpeg.decode_jpeg(small)
    whole = simplejpeg.decode_jpeg(original).astype(np.float32)
    size = found.shape[1], found.shape[0]
    planes = [np.asarray(Image.fromarray(whole[..., i]).resize(size, Image.Resampling.LANCZOS)) for i in range(3)]
    difference = np.clip(np.stack(planes, -1), 0, 255) - found
    return float(10 * np.log10(255**2 / np.mean(difference**2)))


if __name__ == "__main__":
    import tyro

    sys.exit(main(tyro.cli(Config)))
