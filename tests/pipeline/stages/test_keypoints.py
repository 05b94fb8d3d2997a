import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handface.pipeline.contract.detections import Detections
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.sample import AnnotatorRecord, Scores
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.keypoints import KeypointsConfig, KeypointsStage, keypoint_agreement
from tests.pipeline.people import face_at, hand_at


class Shifted:
    """A second network that sees the same person a little to the right, and a further hand elsewhere."""

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def records(self) -> tuple[AnnotatorRecord, ...]:
        return (AnnotatorRecord("second", "whole_body_keypoints", "1", "0" * 64, "MIT"),)

    def annotate(self, images, boxes) -> list[Detections]:
        (found,) = boxes
        assert len(found.faces) == 1
        hands = (hand_at(50, 400, 900), hand_at(320 + self.shift, 250, 900, "left"))
        return [Detections((face_at(320 + self.shift, 200, 900),), hands)]


def run(shift: float, keep: str = "mediapipe") -> Record:
    record = Record(SourceItem("x"), image=np.zeros((480, 640, 3), np.uint8))
    record.face, record.person_hands = face_at(320, 200, 900), [hand_at(320, 250, 900)]
    record.scores = Scores(0.9, 1, 0.1, 0.9, 0.9, None, 0)
    stage = KeypointsStage(KeypointsConfig(keep=keep))
    stage._network = Shifted(shift)
    stage._records = stage._network.records()
    stage([record])
    return record


def test_agreement_is_measured_on_the_same_hand_whatever_it_is_called():
    record = run(0)
    assert record.scores.keypoint_agreement == {"second/face": 1, "second/hand": 1}
    assert [a.name for a in record.annotators] == ["second"]
    apart = run(20).scores.keypoint_agreement
    expected = 1 - 20 / record.face.size
    assert apart == pytest.approx({"second/face": expected, "second/hand": expected}, abs=1e-3)


def test_the_labels_are_those_of_the_network_that_was_chosen():
    ours, theirs = run(20), run(20, "second")
    assert ours.face.keypoints[0, 0] + 20 == pytest.approx(theirs.face.keypoints[0, 0], abs=1e-3)
    assert ours.person_hands[0].keypoints[0, 0] + 20 == pytest.approx(theirs.person_hands[0].keypoints[0, 0], abs=1e-3)
    assert theirs.person_hands[0].side == ours.person_hands[0].side  # nearness, not names, matched them


def test_without_a_second_network_nothing_happens():
    stage = KeypointsStage()
    stage.setup()
    record = Record(SourceItem("x"))
    stage([record])
    assert record.annotators == [] and record.alive


@given(shift=st.floats(0, 400), confidence=st.one_of(st.just(0), st.floats(0.01, 1)))
def test_agreement_falls_with_distance_and_stays_in_range(shift, confidence):
    points = face_at(0, 0, 500).keypoints
    moved = points + np.float32([shift, 0, 0])
    moved[:, 2] = confidence
    value = keypoint_agreement(points, moved, 90.0)
    assert 0 <= value <= 1
    assert value == (pytest.approx(max(0, 1 - shift / 90), abs=1e-3) if confidence > 0 else 0)


def test_a_missing_checkpoint_is_named(tmp_path):
    stage = KeypointsStage(KeypointsConfig(checkpoint=tmp_path / "pose.onnx"))
    with pytest.raises(Exception, match=r"pose\.onnx"):
        stage.setup()
