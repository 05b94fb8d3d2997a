"""A video's frames by number, decoded forward only: seeking in mp4 files is not exact everywhere."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.decaf.layout import DecafError


class FrameReader:
    """Opens a video that must have `frames` frames. Raises DecafError naming the file."""

    def __init__(self, path: Path, frames: int) -> None:
        import cv2

        self.path, self.frames, self._next = path, frames, 0
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise DecafError(f"{path}: not a readable video")
        if (found := int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))) != frames:
            self.close()
            raise DecafError(f"{path}: {found} frames, expected {frames} as in params_smoothed.pkl")

    def at(self, frame: int) -> NDArray[np.uint8]:
        """The frame as (h, w, 3) uint8 RGB; frames between are skipped. Raises ValueError for a frame that is past."""
        if frame < self._next:
            raise ValueError(f"frame {frame} of {self.path} is past; the next is {self._next}")
        while self._next < frame and self._capture.grab():
            self._next += 1
        found, image = self._capture.read() if self._next == frame else (False, None)
        if not found or image is None:
            raise DecafError(f"{self.path}: frame {self._next} does not decode")
        self._next += 1
        return np.ascontiguousarray(image[..., ::-1])

    def close(self) -> None:
        """Let go of the file."""
        self._capture.release()

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
