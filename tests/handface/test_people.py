from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from handface.jobs.demonstration.pictures import demo_files
from handface.model.prediction.prediction import NobodyFoundError
from handface.pipeline.annotators.landmarks import FACE_68_FROM_478, FACE_OVAL
from handface.pipeline.annotators.selfie_segmenter import SEGMENTER
from handface.pipeline.contract.detections import Detections, Face
from handface.pipeline.contract.images.picture import decode_image
from handface.pipeline.contract.model_store import ModelStore
from handface.predict.people import PeopleDetector, as_detection, people
from tests.pipeline.people import face_at, hand_at

SIZE = (640, 480)


def placed(x: float, y: float, scale: float = 1000.0) -> Face:
    """A face that counts as confirmed by the mesh network."""
    face = face_at(x, y, scale)
    mesh = np.zeros((478, 3), np.float32)
    ring = np.linspace(-np.pi / 2, 1.5 * np.pi, len(FACE_OVAL), endpoint=False)
    mesh[list(FACE_OVAL), :2] = np.column_stack([0.0765 * np.cos(ring), 0.0885 * np.sin(ring)]) * scale + (x, y)
    mesh[list(FACE_68_FROM_478), :2] = face.keypoints[:, :2]
    return replace(face, mesh=mesh, box=(x - 76.5, y - 88.5, x + 76.5, y + 88.5))


def test_every_person_with_a_hand_near_the_face_is_found_with_that_hand():
    left, right = placed(150, 200), placed(480, 200)
    hands = (hand_at(480, 230, 1000.0, "left"), hand_at(150, 230, 1000.0))
    found = [as_detection(one) for one in people(Detections((left, right), hands), None, *SIZE)]
    assert len(found) == 2
    for detection, face in (
        (next(d for d in found if d.side == "right"), left),
        (next(d for d in found if d.side == "left"), right),
    ):
        np.testing.assert_array_equal(detection.face, face.keypoints)
        assert detection.face_box == face.box
        assert np.abs(detection.hand[:, 0] - face.keypoints[:, 0].mean()).max() < 120
        assert 0 < detection.confidence <= 1


def test_both_hands_at_one_face_are_two_and_the_deeper_one_comes_first():
    face = placed(300, 200)
    hands = (hand_at(240, 300, 1000.0, "right"), hand_at(320, 210, 1000.0, "left"))
    assert [one.hand.side for one in people(Detections((face,), hands), None, *SIZE)] == ["left", "right"]


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Detections(), "no face"),
        (Detections((placed(300, 200),)), "a face, but no hand"),
        (Detections((placed(300, 150),), (hand_at(100, 420, 1000.0),)), "no hand near a face"),
        (Detections((placed(300, 200),), (hand_at(300, 220, 300.0),)), "no hand near a face"),  # someone's far behind
        (Detections((placed(300, 200),), (hand_at(300, 220, 3000.0),)), "no hand near a face"),  # held at the camera
        (Detections((placed(300, 300, 400.0),), (hand_at(308, 256, 900.0),)), "no face: what looks like one is a palm"),
        (Detections((placed(300, 470),), (hand_at(300, 470, 1000.0),)), "the face is cut"),
        (Detections((face_at(300, 200, 1000.0),), (hand_at(300, 220, 1000.0),)), "no face large enough"),
        (Detections((replace(placed(300, 200), box=(290, 190, 310, 210)),), ()), "20 pixels, at least 32"),
    ],
)
def test_nobody_has_a_reason(found, reason):
    with pytest.raises(NobodyFoundError, match=reason):
        people(found, None, *SIZE)


def test_rendered_hands_at_a_face_are_found_on_their_side_and_plain_portraits_are_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("HANDFACE_MODELS", str(tmp_path))  # no segmenter there, and none is fetched
    names = ("touch_astronaut_right.jpg", "touch_astronaut_left.jpg", "plain_astronaut.jpg", "plain_coffee.jpg")
    photos = {name: decode_image(data) for name, data in demo_files() if name in names}
    detector = PeopleDetector()
    for side in ("right", "left"):
        image = photos[f"touch_astronaut_{side}.jpg"]
        (person,) = detector(image)
        assert person.side == side
        inside = (person.hand[:, :2] > 0).all() and (person.hand[:, :2] < image.shape[1::-1]).all()
        assert inside and person.face_box[0] < person.face[30, 0] < person.face_box[2]
    with pytest.raises(NobodyFoundError, match="hand"):
        detector(photos["plain_astronaut.jpg"])
    with pytest.raises(NobodyFoundError, match="no face"):
        detector(photos["plain_coffee.jpg"])
    detector.close()
    assert (
        ModelStore().find(SEGMENTER) is None
    )  # the detector's own are fetched where no installed package carries them
