"""MediaPipe's selfie multiclass segmenter: where is hair, hand (body skin), face skin, clothes. Its skin border is the
best evidence for contact and occlusion that a small network gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKGROUND, HAIR, BODY_SKIN, FACE_SKIN, CLOTHES, OTHER = range(6)


class SelfieSegmenter:
    """The tflite file run by MediaPipe's Tasks API on the CPU. Raises RuntimeError if the file is no such model."""

    def __init__(self, path: Path) -> None:
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.ImageSegmenterOptions(
            base_options=BaseOptions(model_asset_buffer=path.read_bytes()), output_category_mask=True
        )
        self._network = vision.ImageSegmenter.create_from_options(options)

    def segment(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB -> (H, W) uint8 classes (see the constants of this module)."""
        import mediapipe as mp

        picture = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(image))
        mask = self._network.segment(picture).category_mask.numpy_view()
        return np.array(mask, np.uint8).reshape(image.shape[:2])

    def close(self) -> None:
        """Free the graph."""
        self._network.close()
