"""What annotators return and the two protocols they satisfy: keypoints (faces, hands) and depth maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from handface.pipeline.contract.detections import Detections
from handface.pipeline.contract.sample import AnnotatorRecord, DepthKind

if TYPE_CHECKING:
    from numpy.typing import NDArray


class KeypointAnnotator(Protocol):
    """Finds 2D keypoints of faces and hands. One instance belongs to one process and uses one thread."""

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """Name, version, weights hash and thresholds of every network used, for the sample's provenance."""

    def annotate(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Detections] | None = None
    ) -> list[Detections]:
        """Images (H, W, 3) uint8 RGB -> detections, one per image. `boxes`: earlier detections for top-down networks."""


class DepthAnnotator(Protocol):
    """Predicts a dense depth map."""

    name: str
    kind: DepthKind

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """Name, version, weights hash and thresholds, for the sample's provenance."""

    def annotate(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Images (H, W, 3) uint8 RGB -> float32 maps of the same height and width, in the unit that `kind` names."""
