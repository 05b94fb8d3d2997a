import numpy as np
import pytest

from handface.pipeline.annotators.mediapipe import FACE_68_FROM_478, MediaPipeAnnotator, hand_agreement
from handface.pipeline.contract.detections import Detections
from tests.pipeline.people import hand_at

skimage_data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def detector():
    annotator = MediaPipeAnnotator()
    yield annotator
    annotator.close()


@pytest.fixture(scope="module")
def astronaut(detector) -> Detections:
    return detector.annotate([skimage_data.astronaut()])[0]


def test_the_astronaut_has_one_face_where_it_is(astronaut):
    (face,) = astronaut.faces
    assert face.keypoints.shape == (68, 3) and face.mesh.shape == (478, 3)
    assert face.score > 0.8 and face.found_by == "sure"
    x0, y0, x1, y1 = face.box
    assert 160 < x0 < 190 and 265 < x1 < 290 and 60 < y0 < 95 and 170 < y1 < 205


def test_landmarks_are_in_ibug_order(astronaut):
    points = astronaut.faces[0].keypoints
    right_eye, left_eye, mouth = points[36:42].mean(0), points[42:48].mean(0), points[48:68].mean(0)
    assert right_eye[0] < left_eye[0]  # the person's right eye is on the left of the picture
    assert mouth[1] > right_eye[1] and points[8, 1] == points[:, 1].max()
    assert len(set(FACE_68_FROM_478)) == 68


def test_the_same_face_is_found_in_a_larger_smaller_and_framed_photo(detector, astronaut):
    import cv2

    image = skimage_data.astronaut()
    framed = np.full((1400, 1800, 3), 90, np.uint8)
    framed[500:1012, 700:1212] = image
    double = cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    expected = astronaut.faces[0].keypoints[:, :2]
    for picture, scale, shift in ((framed, 1, (700, 500)), (double, 2, (0, 0))):
        (face,) = detector.annotate([picture])[0].faces
        error = np.linalg.norm((face.keypoints[:, :2] - shift) / scale - expected, axis=1).mean()
        assert error < 3  # of about 110 px face width


def test_nothing_is_found_where_nobody_is(detector):
    assert detector.annotate([skimage_data.coffee()])[0] == Detections()
    assert detector.annotate([np.zeros((64, 64, 3), np.uint8)])[0] == Detections()


def test_grey_and_odd_shapes_are_no_problem(detector):
    strip = np.full((40, 3000, 3), 200, np.uint8)
    assert detector.annotate([strip])[0] == Detections()


def test_hand_agreement_is_one_for_the_same_hand_and_falls_with_distance():
    hand = hand_at(100, 100, 1000)
    assert hand_agreement(hand, hand) == 1
    values = [hand_agreement(hand, hand_at(100 + shift, 100, 1000)) for shift in (5, 20, 80, 400)]
    assert values == sorted(values, reverse=True) and values[-1] == 0


def test_answers_do_not_depend_on_what_was_seen_before(detector, astronaut):
    detector.annotate([skimage_data.coffee(), skimage_data.rocket()])
    again = detector.annotate([skimage_data.astronaut()])[0]
    assert np.array_equal(again.faces[0].mesh, astronaut.faces[0].mesh)
