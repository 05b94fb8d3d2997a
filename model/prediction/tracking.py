"""Who is who from frame to frame: detections are joined to tracks by how well they lie where each track is expected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from handface.model.prediction.crop import keypoint_box
from handface.model.prediction.prediction import Detection
from handface.model.prediction.view import iou

_MEMORY = 0.15  # seconds: how long a sighting counts for a track's place and velocity


@dataclass
class Track:
    """One person's hand at their face through a video. seen: time of the last detection, seconds."""

    number: int
    detection: Detection
    seen: float
    sides: Counter[str] = field(default_factory=Counter)
    place: NDArray[np.float64] = field(init=False)
    """(2, 2) pixels at `seen`, filtered: the face's and the hand's centre, x and y."""
    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))
    """Of `place`, pixels per second."""

    def __post_init__(self) -> None:
        self.place = _centres(_boxes(self.detection))
        self.sides[self.detection.side] += 1

    @property
    def side(self) -> Literal["left", "right"]:
        """What most frames so far say: detectors confuse sides in single frames."""
        return "left" if self.sides["left"] > self.sides["right"] else "right"

    def last(self, time: float) -> NDArray[np.float64]:
        """(2, 4) boxes of face and hand where they were seen last."""
        return _boxes(self.detection)

    def expected(self, time: float) -> NDArray[np.float64]:
        """(2, 4) boxes of face and hand at `time` if both go on as they went."""
        boxes = _boxes(self.detection)
        return boxes + np.tile(self.place + self.velocity * (time - self.seen) - _centres(boxes), 2)

    def update(self, detection: Detection, time: float) -> None:
        """A new sighting: the line through all sightings by least squares, older ones fading."""
        self.sides[detection.side] += 1
        count, step = self.sides.total(), time - self.seen
        expected = self.place + self.velocity * step
        miss = _centres(_boxes(detection)) - expected
        fade = float(np.exp(-step / _MEMORY))
        # Gains of the least squares line through `count` points while that is short, then of the fading one.
        self.place = expected + max(2 * (2 * count - 1) / (count * (count + 1)), 1 - fade**2) * miss
        self.velocity = self.velocity + max(6 / (count * (count + 1)), (1 - fade) ** 2) * miss / step
        self.detection, self.seen = detection, time


class Tracker:
    """Keeps the tracks of one video. A track lives `patience` seconds without being seen, and at least to the next frame."""

    def __init__(self, patience: float = 0.5, least_overlap: float = 0.2) -> None:
        self.patience, self.least_overlap = patience, least_overlap
        self.tracks: list[Track] = []
        self._count = 0
        self._time = -np.inf

    def update(self, detections: Sequence[Detection], time: float) -> list[tuple[Track, Detection | None]]:
        """Tracks alive at `time` (seconds), each with its detection in this frame or None where it is hidden.

        Raises ValueError if time stands still or goes back.
        """
        if time <= self._time:
            raise ValueError(f"frames must come in order of time, but {time:.3f} s follows {self._time:.3f} s")
        self.tracks = [track for track in self.tracks if track.seen >= min(time - self.patience, self._time)]
        self._time = time
        tracks, found = list(self.tracks), list(detections)
        pairs: list[tuple[Track, Detection]] = []
        # Who turned or stopped at once is not where they were expected, but still near where they were.
        for place in (Track.expected, Track.last):
            pairs += self._assign(tracks, [place(track, time) for track in tracks], found)
            tracks = [track for track in tracks if all(track is not other for other, _ in pairs)]
            found = [one for one in detections if all(one is not other for _, other in pairs)]
        for track, one in pairs:
            track.update(one, time)
        for one in found:
            track = Track(self._count, one, time)
            self._count += 1
            self.tracks.append(track)
            pairs.append((track, one))
        seen = {track.number: one for track, one in pairs}
        return [(track, seen.get(track.number)) for track in self.tracks]

    def forget(self) -> None:
        """The scene has changed: whoever comes now is somebody new."""
        self.tracks = []

    def _assign(
        self, tracks: list[Track], places: list[NDArray[np.float64]], found: list[Detection]
    ) -> list[tuple[Track, Detection]]:
        """Tracks, at these places, and their detections, so that all of them together lie best; poor pairs are left out."""
        from scipy.optimize import linear_sum_assignment

        if not tracks or not found:
            return []
        likeness = np.array([[_likeness(place, _boxes(one)) for one in found] for place in places])
        likeness[likeness < self.least_overlap] = 0
        rows, columns = linear_sum_assignment(likeness, maximize=True)
        return [(tracks[i], found[j]) for i, j in zip(rows, columns, strict=True) if likeness[i, j] > 0]


def _boxes(detection: Detection) -> NDArray[np.float64]:
    """(2, 4) x0, y0, x1, y1 of face and hand."""
    return np.array([keypoint_box(detection.face), keypoint_box(detection.hand)])


def _centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _likeness(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Mean of the faces' overlap and the hands' closeness, 0 if either is: two hands at one face differ, and so do two faces.

    Hands are compared by distance, 1 - centre distance / size, since a thin hand that moves hardly overlaps itself.
    """
    faces = iou(tuple(a[0].tolist()), tuple(b[0].tolist()))
    size = max(float((a[1, 2:] - a[1, :2]).max()), float((b[1, 2:] - b[1, :2]).max()), 1.0)
    hands = 1 - float(np.linalg.norm(_centres(a)[1] - _centres(b)[1])) / size
    return (faces + hands) / 2 if min(faces, hands) > 0 else 0.0
