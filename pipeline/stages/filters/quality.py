"""Turns away what is not a photograph (diagrams, screenshots, clip art) before any network looks at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.config import Share
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class QualityConfig:
    """When a picture counts as drawn: both must hold, since a studio photo on white is flat but not poor in colours."""

    max_flat: Share = 0.8
    """Share of pixels equal to their right and lower neighbours."""
    min_colours: int = 64
    """Distinct colours (5 bits per channel) among 64 x 64 evenly spread pixels that a photograph exceeds."""


class QualityStage(Stage):
    """Rejects drawn pictures as `not_a_photo`."""

    name = "quality"
    reads = ("image",)

    def __init__(self, config: QualityConfig = QualityConfig()) -> None:
        self.config = config

    def __call__(self, batch: Sequence[Record]) -> None:
        """Look at each picture's flatness and colours."""
        for record in batch:
            assert record.image is not None
            colours = colour_count(record.image)
            if colours >= self.config.min_colours:  # as nearly all photos have; the costly look is for the others
                continue
            flat = flat_share(record.image)
            if flat > self.config.max_flat:
                record.reject(Reason.NOT_A_PHOTO, f"{flat:.0%} flat, {colours} colours")


def flat_share(image: NDArray[np.uint8]) -> float:
    """Share of pixels of a (H, W, 3) image that equal their right and lower neighbours; sensor noise keeps it low."""
    step = max(1, max(image.shape[:2]) // 256)  # a sample of rows and columns is enough
    here = image[:-1:step, :-1:step]
    right, below = image[:-1:step, 1::step], image[1::step, :-1:step]
    rows, columns = min(here.shape[0], below.shape[0]), min(here.shape[1], right.shape[1])
    here = here[:rows, :columns]
    equal = (here == right[:rows, :columns]) & (here == below[:rows, :columns])
    return float((equal[..., 0] & equal[..., 1] & equal[..., 2]).mean())


def colour_count(image: NDArray[np.uint8]) -> int:
    """Distinct colours at 5 bits per channel among 64 x 64 evenly spread pixels, at most 4096."""
    rows = np.linspace(0, image.shape[0] - 1, 64).astype(int)
    columns = np.linspace(0, image.shape[1] - 1, 64).astype(int)
    coarse = image[np.ix_(rows, columns)].astype(np.int32) >> 3
    return len(np.unique(coarse[..., 0] << 10 | coarse[..., 1] << 5 | coarse[..., 2]))
