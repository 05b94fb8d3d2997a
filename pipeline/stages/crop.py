"""Cuts the square around face and hands, small enough to store, and measures how sharp it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from handface.model.prediction.view import Box, crop_box, square
from handface.pipeline.contract.config import Count
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.sample import MAX_CROP
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


_STEPS = 32  # at least so many grid steps along a side


@dataclass(frozen=True)
class CropConfig:
    """How much is cut out and how small or blurred it may be."""

    margin: float = 1.4
    """Side of the square relative to the box around face and hand 0."""
    max_side: Count = MAX_CROP
    """Larger crops are shrunk to this; smaller ones are stored as they are."""
    min_side: int = 96
    """Crops with fewer original pixels are too small."""
    min_sharpness: float = 1.0
    """Variance of the Laplacian of the grey crop at 256 px; below this the photo is blurred."""


class CropStage(Stage):
    """Fills crop (S, S, 3) and affine (3, 3) crop pixel -> original pixel; drops the full photo."""

    name = "crop"
    reads = ("image", "face", "person_hands", "scores")
    writes = ("crop", "affine", "scores")
    drops = ("image",)
    version = 3  # whole pixels; a box that is hardly larger than the photo stays where it is

    def __init__(self, config: CropConfig = CropConfig()) -> None:
        self.config = config

    def __call__(self, batch: Sequence[Record]) -> None:
        """Crop each photo."""
        for record in batch:
            assert record.image is not None and record.face is not None and record.scores is not None
            height, width = record.image.shape[:2]
            box = crop_box(record.face.box, record.person_hands[0].box, self.config.margin, width, height)
            box = snap_box(box, width, height)
            side = box[2] - box[0]
            if side < self.config.min_side:
                record.reject(Reason.TOO_SMALL, f"crop of {side:.0f} px")
                continue
            view = square(record.image, box, min(self.config.max_side, round(side)), border=(0, 0, 0))
            sharpness = crop_sharpness(view.pixels)
            if sharpness < self.config.min_sharpness:
                record.reject(Reason.BLURRED, f"sharpness {sharpness:.2f}")
                continue
            record.crop, record.affine = view.pixels, np.vstack([view.affine, [0.0, 0.0, 1.0]])
            record.scores = replace(record.scores, sharpness=round(sharpness, 2))
            record.image = None


def snap_box(box: Box, width: int, height: int) -> Box:
    """The square moved onto a grid of whole pixels, some 1/32 of its side wide; a photo's borders stay its borders.

    Processors round otherwise, by some hundredths of a pixel; a sample's key, the hash of its crop, should not show it. A crop that is
    not shrunk is then a plain copy.
    """
    side = box[2] - box[0]
    step = 2 ** max(0, math.floor(math.log2(max(side, 1) / _STEPS)))
    snapped = max(1, round(side / step) * step)
    if side <= min(width, height):
        snapped = min(snapped, width, height)
    corners = []
    for low, bound in ((box[0], width), (box[1], height)):
        start = round((low + 0.5) / step) * step  # boxes begin half a pixel before the centre of their first pixel
        corners.append((min(max(start, 0), bound - snapped) if side <= bound else start) - 0.5)
    x, y = corners
    return x, y, x + snapped, y + snapped


def crop_sharpness(pixels: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the grey image at 256 px, grey levels squared."""
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if grey.shape[0] != 256:
        grey = cv2.resize(grey, (256, 256), interpolation=cv2.INTER_AREA if grey.shape[0] > 256 else cv2.INTER_LINEAR)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())
