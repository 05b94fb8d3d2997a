"""MediaPipe's selfie multiclass segmenter: where is hair, hand (body skin), face skin, clothes. Its skin border is the
best evidence for contact and occlusion that a small network gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.networks.mediapipe import SkinSegmenter, open_network
from handface.pipeline.annotators.networks.regions import NetworkPicture, Region
from handface.pipeline.annotators.networks.runtime import RuntimeConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

SEGMENTER = "selfie-multiclass"
BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, OTHER = range(6)


class SelfieSegmenter:
    """Class maps of pictures. Raises NetworkError if the file in the model store is no such network."""

    def __init__(self, runtime: RuntimeConfig = RuntimeConfig()) -> None:
        self._network = SkinSegmenter(open_network(SEGMENTER, runtime))

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB -> (H, W) uint8 classes (see the constants of this module)."""
        import cv2

        height, width = image.shape[:2]
        (scores,) = self._network([(NetworkPicture(image), Region(width / 2, height / 2, width, height))])
        return np.asarray(cv2.resize(scores, (width, height), interpolation=cv2.INTER_LINEAR).argmax(-1), np.uint8)
