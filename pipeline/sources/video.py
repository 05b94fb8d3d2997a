"""Video files: frames at a time step and where a new scene begins, listed once, decoded again where they are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.sources.base import SourceConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
_MEMBER = re.compile(r"t=(\d+\.\d{3})")
_SEEK_AHEAD = (
    10.0  # seconds; a jump further than this seeks, a shorter one decodes on (seeking lands on key frames only)
)


@dataclass(frozen=True)
class VideoSource:
    """One item per chosen frame, member `t=SECONDS`. Local files; the video is decoded once, at small size, to list it.

    Raises OSError if it cannot be opened.
    """

    uri: str
    config: SourceConfig = field(default_factory=SourceConfig)

    def __iter__(self) -> Iterator[SourceItem]:
        import cv2

        step, threshold = self.config.frame_step, self.config.scene_threshold
        due, last = 0.0, None
        with VideoFrames(self.uri) as frames:
            for time, frame in frames:
                small = cv2.resize(frame, (64, 64), interpolation=cv2.INTER_AREA)
                histogram = cv2.calcHist([small], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).ravel() / small[..., 0].size
                cut = last is not None and 0.5 * float(np.abs(histogram - last).sum()) >= threshold
                last = histogram
                if cut or (step > 0 and time >= due - 1e-6) or (time == 0 and step <= 0):
                    yield SourceItem(self.uri, f"t={time:.3f}")
                    due = time + step
                    continue


def frame_time(item: SourceItem) -> float | None:
    """Seconds of the frame an item stands for, or None if it is no video frame."""
    if item.offset is not None or item.member is None:  # a tar member may be called anything
        return None
    found = _MEMBER.fullmatch(item.member)
    return float(found[1]) if found else None


class VideoFrames:
    """Decoded frames of one video, RGB, in order of time; `at` goes forward cheaply and backward by reopening.

    Raises OSError if the video cannot be opened.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._open()

    def _open(self) -> None:
        import cv2

        self._capture = cv2.VideoCapture(self.uri.removeprefix("file://"), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise OSError(f"{self.uri}: not a video that can be opened")
        self._rate = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._index = 0

    @property
    def rate(self) -> float:
        """Frames per second."""
        return float(self._rate)

    @property
    def count(self) -> int:
        """Frames that the header announces, 0 if it does not say."""
        import cv2

        return max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __enter__(self) -> VideoFrames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the decoder."""
        self._capture.release()

    def __iter__(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """(seconds, (H, W, 3) uint8 RGB) of every frame from here on. Time is frame number / frame rate."""
        while (found := self._next()) is not None:
            yield found

    def at(self, time: float) -> NDArray[np.uint8] | None:
        """The frame at `time` (rounded to a frame), or None past the end or where the video is broken."""
        import cv2

        wanted = round(time * self._rate)
        if wanted < self._index:
            self.close()
            self._open()
        if wanted - self._index > _SEEK_AHEAD * self._rate:
            # Seek short of the frame and decode on: containers only promise to land near a key frame.
            self._capture.set(cv2.CAP_PROP_POS_FRAMES, max(0, wanted - round(2 * self._rate)))
            self._index = round(self._capture.get(cv2.CAP_PROP_POS_FRAMES))
        while self._index < wanted:
            if not self._capture.grab():
                return None
            self._index += 1
        found = self._next()
        return None if found is None else found[1]

    def _next(self) -> tuple[float, NDArray[np.uint8]] | None:
        import cv2

        ok, frame = self._capture.read()
        if not ok:
            return None
        time = self._index / self._rate
        self._index += 1
        return time, np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
