"""Which of the detector's people a sample's labels are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handface.jobs.cli import main
from handface.model.prediction.prediction import Detection
from handface.pipeline.contract.sample import LEFT, RIGHT, Labels
from handface.predict.found import Found, is_own, labelled_person

RNG = np.random.default_rng(0)
FACE = np.concatenate([RNG.uniform(20, 80, (68, 2)), np.ones((68, 1))], 1).astype(np.float32)
HAND = np.concatenate([RNG.uniform(60, 100, (21, 2)), np.ones((21, 1))], 1).astype(np.float32)
LABELS = Labels(face_keypoints_2d=FACE, hand_keypoints_2d=HAND[None], hand_side=np.array([RIGHT], np.uint8))


def person(hand: float = 0.0, face: float = 0.0, side: str = "right") -> Detection:
    move = np.array([1, 0, 0], np.float32)
    return Detection(FACE + face * move, HAND + hand * move, side, 1.0, None)  # type: ignore[arg-type]


def test_the_nearest_hand_of_the_right_side_is_taken() -> None:
    found = labelled_person([person(20), person(5), person(1, side="left")], LABELS)
    np.testing.assert_array_equal(found, np.concatenate([FACE, HAND + [5, 0, 0]]).astype(np.float32))


@pytest.mark.parametrize(
    "people", [[], [person(40)], [person(face=30)], [person(side="left")]], ids=["nobody", "hand", "face", "side"]
)
def test_somebody_else_is_not(people: list[Detection]) -> None:
    assert labelled_person(people, LABELS) is None


@pytest.mark.parametrize(
    ("annotator", "own"),
    [
        ("mediapipe-hand-landmarks", True),
        ("mediapipe-face-landmarks", True),
        ("selfie-multiclass", False),
        ("toy", False),
    ],
)
def test_points_of_the_detector_itself_are_told_from_others(annotator: str, own: bool, make_sample: Any) -> None:
    meta = make_sample(0).meta
    assert not is_own(meta)
    assert is_own(replace(meta, annotators=(replace(meta.annotators[0], name=annotator),))) == own


def test_a_list_of_the_detectors_own_points_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = [Found({"a": np.zeros((89, 3), np.float32)}, 5, 5), Found({"b": np.zeros((89, 3), np.float32)}, 7, 0)]
    monkeypatch.setattr("handface.predict.found.find_points", lambda shards, processes: iter(found))
    monkeypatch.setattr("handface.pipeline.contract.shards.find_shards", lambda shards: list(shards))
    command = ["weights", "points", "one.tar", "two.tar", "--output", str(tmp_path / "found.parquet")]
    assert main(command) == 0
    (said,) = [text for text in caplog.messages if "detector's own points" in text]
    assert said.startswith("5 of 12 samples") and "handface synthesize" in said
    caplog.clear()
    found[:] = [Found({"a": np.zeros((89, 3), np.float32)}, 5, 0)]
    assert main(command) == 0
    assert not caplog.messages


def test_labels_without_a_face_or_a_hand_are_of_nobody() -> None:
    nothing = replace(LABELS, hand_keypoints_2d=np.zeros((0, 21, 3), np.float32), hand_side=np.zeros(0, np.uint8))
    assert labelled_person([person()], nothing) is None
    assert labelled_person([person()], replace(LABELS, face_keypoints_2d=None)) is None
    hidden = replace(LABELS, face_keypoints_2d=FACE * [1, 1, 0])
    assert labelled_person([person()], hidden) is None
    assert labelled_person([person(side="left")], replace(LABELS, hand_side=np.array([LEFT], np.uint8))) is not None
