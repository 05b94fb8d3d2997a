"""RTMPose, RTMW and other SimCC networks exported to ONNX, under onnxruntime: mmpose's family without mmpose.

Own pre- and post-processing of thirty lines instead of rtmlib, whose defaults download and whose boxes are its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators import top_down
from handface.pipeline.annotators.onnx_session import OnnxError, float_type, open_session
from handface.pipeline.annotators.top_down import POINTS, Layout
from handface.pipeline.contract.detections import Detections
from handface.pipeline.contract.sample import AnnotatorRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class OnnxPoseConfig:
    """Which network, and how it is run."""

    checkpoint: Path
    """The .onnx file; input (N, 3, H, W), outputs simcc_x (N, K, split * W) and simcc_y (N, K, split * H)."""
    layout: Layout = "wholebody"
    """Which points it gives: wholebody (133), hand (21), face68, or face106 (LaPa)."""
    licence: str = "unknown"
    """Of the weights, kept with every sample."""
    batch_size: int = 8
    """Boxes that go through together, where the file's batch axis is free."""


class OnnxPose:
    """A top-down network on one thread of the CPU. Raises top_down.PoseError if the file is missing, corrupt or of another shape."""

    def __init__(self, config: OnnxPoseConfig) -> None:
        self.config = config
        path = config.checkpoint
        if not path.is_file():
            raise top_down.PoseError(f"there is no checkpoint {path}; export one as docs/mmpose.md shows")
        try:
            self._session = open_session(path)
            self._dtype = float_type(self._session, path)
        except OnnxError as error:
            raise top_down.PoseError(str(error)) from error
        first, outputs = self._session.get_inputs()[0], self._session.get_outputs()
        if len(first.shape) != 4 or not all(isinstance(n, int) for n in first.shape[1:]) or first.shape[1] != 3:
            raise top_down.PoseError(f"{path} takes {first.shape}, expected (N, 3, H, W) with fixed H and W")
        if len(outputs) != 2:
            raise top_down.PoseError(f"{path} has {len(outputs)} outputs, expected simcc_x and simcc_y")
        self._input = first.name
        self.height, self.width = first.shape[2:]
        self._batch = config.batch_size if not isinstance(first.shape[0], int) else first.shape[0]
        self._fixed = isinstance(first.shape[0], int)

    def annotate(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Detections] | None = None
    ) -> list[Detections]:
        """Images (H, W, 3) uint8 RGB and where faces and hands are -> this network's points. Raises ValueError without boxes."""
        return top_down.annotate(self, self.config.layout, images, boxes)

    def points(self, image: NDArray[np.uint8], boxes: Sequence[top_down.Box]) -> list[NDArray[np.float32]]:
        """One (K, 3) array of x, y in image pixels and confidence in [0, 1] for each box."""
        affines = [top_down.crop_affine(box, self.width, self.height) for box in boxes]
        inputs = [top_down.network_input(image, affine, self.width, self.height) for affine in affines]
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(inputs), self._batch):
            chunk = np.stack(inputs[start : start + self._batch])
            count = len(chunk)
            if self._fixed and count < self._batch:
                chunk = np.concatenate([chunk, np.repeat(chunk[-1:], self._batch - count, 0)])
            outputs = self._session.run(None, {self._input: chunk.astype(self._dtype, copy=False)})
            simcc_x, simcc_y = (np.asarray(axis, np.float32) for axis in outputs)
            self._check(simcc_x, simcc_y)
            split = simcc_x.shape[-1] / self.width
            decoded, scores = top_down.decode_simcc(simcc_x[:count], simcc_y[:count], split)
            for affine, xy, score in zip(affines[start:], decoded, scores, strict=False):
                found.append(np.column_stack([top_down.to_image(xy, affine), np.clip(score, 0, 1)]).astype(np.float32))
        return found

    def _check(self, simcc_x: NDArray[np.float32], simcc_y: NDArray[np.float32]) -> None:
        expected = POINTS[self.config.layout]
        aspect = simcc_x.shape[-1] * self.height == simcc_y.shape[-1] * self.width
        if simcc_x.ndim != 3 or simcc_y.ndim != 3 or simcc_x.shape[1] != expected or not aspect:
            raise top_down.PoseError(
                f"{self.config.checkpoint} gives {simcc_x.shape} and {simcc_y.shape}; layout {self.config.layout} expects "
                f"(N, {expected}, split * {self.width}) and (N, {expected}, split * {self.height})"
            )

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """Provenance, with the hash of the file."""
        from handface.pipeline.contract.model_store import file_sha256

        digest = file_sha256(self.config.checkpoint)
        return (
            AnnotatorRecord(
                self.config.checkpoint.stem,
                top_down.TASKS[self.config.layout],
                digest[:12],
                digest,
                self.config.licence,
            ),
        )
