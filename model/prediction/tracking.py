"""Who is who from frame to frame: detections are joined to tracks by how much their boxes overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from handface.model.prediction.crop import keypoint_box
from handface.model.prediction.prediction import Detection
from handface.model.prediction.view import iou


@dataclass
class Track:
    """One person's hand at their face through a video. seen: time of the last detection, seconds."""

    number: int
    detection: Detection
    seen: float
    sides: Counter[str] = field(default_factory=Counter)

    @property
    def side(self) -> Literal["left", "right"]:
        """What most frames so far say: detectors confuse sides in single frames."""
        return "left" if self.sides["left"] > self.sides["right"] else "right"

    def update(self, detection: Detection, time: float) -> None:
        """A new sighting."""
        self.detection, self.seen = detection, time
        self.sides[detection.side] += 1


class Tracker:
    """Keeps the tracks of one video. A track lives `patience` seconds without being seen."""

    def __init__(self, patience: float = 0.5, least_overlap: float = 0.2) -> None:
        self.patience, self.least_overlap = patience, least_overlap
        self.tracks: list[Track] = []
        self._count = 0

    def update(self, detections: Sequence[Detection], time: float) -> list[tuple[Track, Detection | None]]:
        """Tracks alive at `time` (seconds), each with its detection in this frame or None where it is hidden."""
        self.tracks = [track for track in self.tracks if time - track.seen <= self.patience]
        pairs = sorted(
            (
                (_likeness(track.detection, found), i, j)
                for i, track in enumerate(self.tracks)
                for j, found in enumerate(detections)
            ),
            key=lambda pair: (-pair[0], pair[1], pair[2]),
        )
        track_of: dict[int, int] = {}
        for likeness, i, j in pairs:
            if likeness >= self.least_overlap and j not in track_of and i not in track_of.values():
                track_of[j] = i
        seen: dict[int, Detection] = {}
        for j, found in enumerate(detections):
            if j in track_of:
                track = self.tracks[track_of[j]]
            else:
                track = Track(self._count, found, time)
                self._count += 1
                self.tracks.append(track)
            track.update(found, time)
            seen[track.number] = found
        return [(track, seen.get(track.number)) for track in self.tracks]


def _likeness(a: Detection, b: Detection) -> float:
    """Mean of the faces' overlap and the hands' closeness, 0 if either is: two hands at one face differ, and so do two faces.

    Hands are compared by distance, 1 - centre distance / size, since a thin hand that moves hardly overlaps itself.
    """
    faces = iou(keypoint_box(a.face), keypoint_box(b.face))
    first, second = np.array(keypoint_box(a.hand)), np.array(keypoint_box(b.hand))
    size = max(*(first[2:] - first[:2]), *(second[2:] - second[:2]), 1.0)
    distance = float(np.linalg.norm((first[:2] + first[2:] - second[:2] - second[2:]) / 2))
    hands = 1 - distance / size
    return (faces + hands) / 2 if min(faces, hands) > 0 else 0.0
