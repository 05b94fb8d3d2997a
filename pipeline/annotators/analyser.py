"""Detector and segmenter behind one call, with a picture's failure kept to that picture."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handface.pipeline.annotators.base import KeypointAnnotator
from handface.pipeline.annotators.detector import HandFaceDetector
from handface.pipeline.annotators.landmarks import reach
from handface.pipeline.annotators.selfie_segmenter import SelfieSegmenter
from handface.pipeline.contract.detections import Detections

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)
MAX_GAP = 0.12  # face sizes between hand and face; beyond it no skin map could make them touch


class DetectorError(RuntimeError):
    """The detector failed on a picture; the message says how."""


@dataclass(frozen=True)
class Analysis:
    """What is seen in a picture. skin: (H, W) uint8 class map if a hand is at a face, or nearly so, and there is a segmenter."""

    found: Detections
    skin: NDArray[np.uint8] | None = None


class Analyser:
    """Finds faces and hands, and the skin where a hand is near a face."""

    def __init__(self, detector: KeypointAnnotator, segmenter: SelfieSegmenter | None) -> None:
        self.detector, self.segmenter = detector, segmenter

    def analyse(self, images: Sequence[NDArray[np.uint8]]) -> list[Analysis | DetectorError]:
        """Images (H, W, 3) uint8 RGB, all together -> what is seen in each, or why the detector failed on it."""
        if not images:
            return []
        try:
            detections = self.detector.annotate(images)
            skins = [self._skin(image, found) for image, found in zip(images, detections, strict=True)]
            if isinstance(self.detector, HandFaceDetector):
                detections = self.detector.add_second_hands(images, detections, skins)
            return [Analysis(found, skin) for found, skin in zip(detections, skins, strict=True)]
        # whatever native code raises on a stranger's picture ends that picture alone
        except Exception as error:
            if len(images) == 1:
                log.warning("the detector failed on a picture of %s pixels", images[0].shape, exc_info=True)
                return [DetectorError(f"{type(error).__name__}: {error}")]
        return [answer for image in images for answer in self.analyse([image])]

    def _skin(self, image: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8] | None:
        if self.segmenter is None:
            return None
        pairs = [(face, hand) for face in found.faces if face.mesh is not None for hand in found.hands]
        near = any(reach(face, hand) > -MAX_GAP for face, hand in pairs)
        return self.segmenter.segment(image) if near else None
