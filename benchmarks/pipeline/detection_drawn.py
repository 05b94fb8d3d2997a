"""Drawn pictures: what the hand-face filter keeps of photos that were made to look drawn, and whether flatness tells them.

    python -m benchmarks.pipeline.detection_drawn --photos DIR --scenes DIR --save

The folders are those of `benchmarks.pipeline.detection`. Real drawings with known answers are not at hand; OpenCV's filters stand in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from rich.progress import track

from benchmarks.pipeline.detection import Filter, rate, read_photos, read_scenes
from benchmarks.results import Figure, report
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.detect import DetectConfig
from handface.pipeline.stages.filters.quality import QualityStage

Picture = np.ndarray  # (H, W, 3) uint8 RGB
SIDE, SCENES = 640, 80
PHOTOS_LOST = 0.01


@dataclass(frozen=True)
class Config:
    photos: Path
    scenes: Path
    save: bool = False
    """Write the figures to docs/results/detection.csv and its page."""


def main(config: Config) -> None:
    photos = [fitted(read(photo.path)) for photo in read_photos(config.photos)]
    scenes = [scene.path for scene in read_scenes(config.scenes) if scene.kind == "touch" and not scene.tuned]
    sets = {name: [through_jpeg(draw(photo)) for photo in photos] for name, draw in WAYS.items()}
    sets["rendered scenes that touch"] = [read(path) for path in scenes[:SCENES]]
    keeps = Filter(DetectConfig(segmenter="on"))
    lost = float(np.quantile([flatness(photo) for photo in sets["photos"]], 1 - PHOTOS_LOST))
    figures = []
    for name, pictures in sets.items():
        kept = sum(keeps.judge(picture)[0].alive for picture in track(pictures, name))
        drawn = sum(not passes(picture) for picture in pictures)
        flat = sum(flatness(picture) > lost for picture in pictures)
        columns = {
            "kept": kept,
            "turned away as drawn": drawn,
            f"flatter than {1 - PHOTOS_LOST:.0%} of the photos": flat,
        }
        figures += [Figure(f"drawn | {name} | {column}", rate(n, len(pictures))) for column, n in columns.items()]
    report("detection", figures, config.save)


def posterise(photo: Picture) -> Picture:
    """Eight levels a channel after smoothing."""
    return (cv2.bilateralFilter(photo, 9, 60, 9) // 32 * 32 + 16).astype(np.uint8)


WAYS: dict[str, Callable[[Picture], Picture]] = {
    "photos": lambda photo: photo,
    "the same, posterised": posterise,
    "the same, smoothed between edges": lambda photo: cv2.edgePreservingFilter(photo, flags=1, sigma_s=60, sigma_r=0.4),
    "the same, as a painting": lambda photo: cv2.stylization(photo, sigma_s=60, sigma_r=0.45),
}


def flatness(picture: Picture) -> float:
    """Share of 5 x 5 windows whose grey levels spread less than half a level."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    mean = cv2.blur(grey, (5, 5))
    return float((cv2.blur(grey * grey, (5, 5)) - mean * mean < 0.25).mean())


def passes(picture: Picture) -> bool:
    """Whether the quality stage takes it for a photo."""
    record = Record(SourceItem("picture"), image=picture)
    QualityStage()([record])
    return record.alive


def read(path: Path) -> Picture:
    return cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)


def fitted(photo: Picture) -> Picture:
    """At most SIDE pixels on the longer side."""
    factor = min(1.0, SIDE / max(photo.shape[:2]))
    return cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


def through_jpeg(picture: Picture) -> Picture:
    """As the web has it, quality 90."""
    _, data = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


if __name__ == "__main__":
    main(tyro.cli(Config))
