"""Video files: frames at a time step and where a new scene begins, listed once, decoded again where they are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.images.orientation import upright
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.names.addresses import local_path
from handface.pipeline.sources.base import SourceConfig
from handface.pipeline.sources.boxes import film_orientation

if TYPE_CHECKING:
    from numpy.typing import NDArray

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
_MEMBER = re.compile(r"t=(\d+\.\d{3})")
_SEEK_AHEAD = (
    10.0  # seconds; a jump further than this seeks, a shorter one decodes on (seeking lands on key frames only)
)
_BACK = (2.0, 6.0, 20.0, 60.0)  # seconds before a frame at which seeking is tried
_SAME = 0.0006  # seconds; names of frames are rounded to milliseconds


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
    """Decoded frames of one local video, RGB, upright, in order of time; `at` goes forward cheaply and backward by reopening.

    Times are those of the stream, so they hold for variable frame rates. Of several video streams the first is read.
    Raises OSError if the video cannot be opened, AddressRefusedError if it is no local file.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        # An absolute path, which FFmpeg cannot take for one of its protocols.
        self._path = local_path(uri)
        self._turn = film_orientation(self._path)
        self._open()

    def _open(self) -> None:
        import cv2

        try:
            self._capture = cv2.VideoCapture(self._path, cv2.CAP_FFMPEG)
        except (cv2.error, UnicodeError) as error:  # a name that is no UTF-8
            raise OSError(f"{self.uri}: not a video that can be opened ({error})") from error
        if not self._capture.isOpened():
            raise OSError(f"{self.uri}: not a video that can be opened")
        if self._turn is not None:
            self._capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # it undoes turns, but not mirrors
        self._rate = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self._time = -1.0  # of the frame grabbed last

    @property
    def rate(self) -> float:
        """Frames per second, the mean where it varies."""
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
        """(seconds, (H, W, 3) uint8 RGB) of every frame from here on."""
        while self._grab():
            if (frame := self._picture()) is None:
                return
            yield self._time, frame

    def at(self, time: float) -> NDArray[np.uint8] | None:
        """The frame that is shown first at `time`, to a millisecond; None where no frame begins then, or the video is broken."""
        if time <= self._time + _SAME:
            self._reopen()
        if time - self._time > _SEEK_AHEAD:
            self._seek_before(time)
        while self._grab():
            if self._time >= time - _SAME:
                return self._picture() if self._time <= time + _SAME else None
        return None

    def _seek_before(self, time: float) -> None:
        """Go to some frame before `time`. Decoders promise only to land near a key frame, so what came is compared."""
        import cv2

        for back in _BACK:
            if back >= time:
                break
            self._capture.set(cv2.CAP_PROP_POS_MSEC, (time - back) * 1000)
            self._time = -1.0
            if self._grab() and 0 < self._time < time - _SAME:
                return
        self._reopen()

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _grab(self) -> bool:
        """Move to the next frame. Where times stand still or go back (some AVI files, joined streams), frames count by the rate."""
        import cv2

        if not self._capture.grab():
            return False
        time = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        follows = self._time < 0 or time > self._time
        self._time = max(0.0, time) if follows else self._time + 1 / self._rate
        return True

    def _picture(self) -> NDArray[np.uint8] | None:
        import cv2

        ok, frame = self._capture.retrieve()
        if not ok:
            return None
        image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        return image if self._turn in (None, 1) else np.ascontiguousarray(upright(image, self._turn or 1))
