"""Drawn videos of `handface predict`, and whose hand is whose in them."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from handface.jobs.prediction.videos import join_tracks
from handface.jobs.shared import video_output
from handface.model.prediction.prediction import Prediction
from tests.model.marked_photo import Mark


def test_the_codecs_fall_back_in_order_and_a_machine_without_any_says_so(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(video_output, "CODECS", {"zzzz": "none", "mp4v": "MPEG-4"})
    fourcc = cv2.VideoWriter.fourcc
    monkeypatch.setattr(cv2.VideoWriter, "fourcc", lambda *code: tried.append("".join(code)) or fourcc(*code))
    with video_output.VideoWriter(tmp_path / "a.mp4", 10.0) as video:
        video.add(np.zeros((48, 64, 3), np.uint8))
    assert video.codec == "MPEG-4" and tried == ["zzzz", "mp4v"]
    monkeypatch.setattr(video_output, "CODECS", {"zzzz": "none"})
    with pytest.raises(OSError, match="use --no-pictures"):
        video_output.VideoWriter(tmp_path / "b.mp4", 10.0).add(np.zeros((48, 64, 3), np.uint8))


def test_a_film_of_an_hour_a_frame_is_drawn_at_one_frame_a_second(tmp_path):
    with video_output.VideoWriter(tmp_path / "a.mp4", 1 / 3600) as video:
        video.add(np.zeros((48, 64, 3), np.uint8))
    assert video.rate == 1 and cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(1)


def test_two_hands_at_one_face_are_one_person():
    face, other = (Mark((80.0, 80.0), (110.0, 100.0), size=30).detection() for _ in range(2))
    tracks: dict[int | None, int] = {}
    hands = [SimpleNamespace(detection=face, track=1), SimpleNamespace(detection=other, track=2)]
    alone = Mark((170.0, 110.0), (150.0, 130.0), "left", 25).detection()
    hands += [SimpleNamespace(detection=alone, track=5), SimpleNamespace(detection=None, track=7)]
    prediction = Prediction(tuple(hands), 8, 8, True)  # type: ignore[arg-type]
    assert prediction.faces == [0, 0, 1, 2]
    join_tracks(tracks, Prediction((hands[1], hands[2]), 8, 8, True))  # type: ignore[arg-type]
    join_tracks(tracks, prediction)
    assert len(tracks) == 4 and len(set(tracks.values())) == 3 and tracks[1] == tracks[2]
