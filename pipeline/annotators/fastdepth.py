"""FastDepth (Wofk et al., ICRA 2019): a small monocular network that works offline. A fallback, less accurate than Depth Anything.

It was trained on the rooms of NYU Depth V2 with one Kinect camera. On portraits it separates person from background and
does not resolve a hand against a face; its metres do not hold for another camera, so its kind is "affine".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.onnx_session import open_session
from handface.pipeline.contract.sample import AnnotatorRecord, DepthKind

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 224
MODEL = "fastdepth"


class FastDepth:
    """The ONNX file under onnxruntime, one thread. Raises ValueError naming the file if it is no such network."""

    name = MODEL
    kind: DepthKind = "affine"

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            from handface.pipeline.contract.model_store import ModelStore

            path = ModelStore().path(MODEL)
        self.path = path
        self._session = open_session(path)
        first = self._session.get_inputs()[0]
        if list(first.shape) != [1, 3, SIDE, SIDE]:
            raise ValueError(f"{path} takes {first.shape}, expected [1, 3, {SIDE}, {SIDE}]: not FastDepth")
        self._input = first.name

    def annotate(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """Images (H, W, 3) uint8 RGB -> float32 maps (H, W): metres of its training camera, larger is farther."""
        return [self._annotate(image) for image in images]

    def _annotate(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        import cv2

        shrink = min(image.shape[:2]) > SIDE
        small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        pixels = np.ascontiguousarray(small.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        depth = self._session.run(None, {self._input: pixels})[0][0, 0]
        return np.asarray(cv2.resize(depth, image.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """Provenance, with the hash of the file in use."""
        from handface.pipeline.contract.model_store import file_sha256, models

        model = models()[MODEL]
        digest = file_sha256(self.path)
        return (AnnotatorRecord(MODEL, "depth", digest[:12], digest, model.licence),)
