import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from handface.pipeline.annotators.analyser import Analyser, DetectorError
from handface.pipeline.annotators.detector import DetectorConfig, HandFaceDetector
from handface.pipeline.annotators.landmarks import FACE_68_FROM_478, hand_agreement
from handface.pipeline.annotators.networks.runtime import NetworkError, RuntimeConfig
from handface.pipeline.annotators.search.hands import oppose_sides
from handface.pipeline.contract.detections import Detections
from tests.pipeline.people import hand_at

skimage_data = pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def detector():
    return HandFaceDetector()


@pytest.fixture(scope="module")
def astronaut(detector) -> Detections:
    return detector.annotate([skimage_data.astronaut()])[0]


@pytest.fixture(scope="module")
def touching() -> np.ndarray:
    from handface.jobs.demonstration.pictures import _photos, with_hand

    return with_hand(_photos()[0])[:300, 60:360].copy()


def same(a: Detections, b: Detections) -> bool:
    arrays = [[(f.mesh, f.keypoints) for f in d.faces] + [(h.keypoints, h.world) for h in d.hands] for d in (a, b)]
    return len(arrays[0]) == len(arrays[1]) and all(
        np.array_equal(x, y) for one, other in zip(*arrays, strict=True) for x, y in zip(one, other, strict=True)
    )


def test_the_astronaut_has_one_face_where_it_is(astronaut):
    (face,) = astronaut.faces
    assert face.keypoints.shape == (68, 3) and face.mesh.shape == (478, 3)
    assert face.score > 0.8
    x0, y0, x1, y1 = face.box
    assert 160 < x0 < 190 and 265 < x1 < 290 and 60 < y0 < 95 and 170 < y1 < 205
    assert astronaut.hands == ()


def test_landmarks_are_in_ibug_order(astronaut):
    points = astronaut.faces[0].keypoints
    right_eye, left_eye, mouth = points[36:42].mean(0), points[42:48].mean(0), points[48:68].mean(0)
    assert right_eye[0] < left_eye[0]  # the person's right eye is on the left of the picture
    assert mouth[1] > right_eye[1] and points[8, 1] == points[:, 1].max()
    assert len(set(FACE_68_FROM_478)) == 68


def test_a_hand_at_the_face_is_found_and_confirmed(detector, touching):
    (found,) = detector.annotate([touching])
    (hand,) = found.hands
    assert hand.side == "right" and hand.agreement > 0.7 and hand.palm_score > 0.5 and hand.score > 0.5
    assert hand.world.shape == (21, 3) and hand.z[0] == pytest.approx(0, abs=2)
    assert 0.1 < np.linalg.norm(hand.world[12] - hand.world[0]) < 0.25  # metres, wrist to fingertip
    (mirrored,) = detector.annotate([touching[:, ::-1].copy()])
    (other,) = mirrored.hands
    assert other.side == "left"
    flipped = np.abs(other.keypoints[:, 0] + hand.keypoints[:, 0] - (touching.shape[1] - 1)).mean()
    assert flipped < 0.1 * (hand.box[3] - hand.box[1])


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
    skin = np.full((300, 300, 3), (224, 172, 138), np.uint8)
    empty = [skimage_data.coffee(), np.zeros((64, 64, 3), np.uint8), skin, np.full((1, 1, 3), 9, np.uint8)]
    wide = np.full((40, 40_000, 3), 200, np.uint8)
    assert detector.annotate([*empty, wide]) == [Detections()] * 5


def test_answers_depend_on_the_picture_alone(detector, astronaut, touching):
    mixed = [touching, np.zeros((30, 500, 3), np.uint8), skimage_data.astronaut(), skimage_data.coffee()]
    together = detector.annotate(mixed)
    assert same(together[2], astronaut) and same(together[0], detector.annotate([touching])[0])
    assert len(together[0].hands) == 1 and detector.annotate([]) == []


def test_hand_agreement_is_one_for_the_same_hand_and_falls_with_distance():
    hand = hand_at(100, 100, 1000)
    assert hand_agreement(hand, hand) == 1
    values = [hand_agreement(hand, hand_at(100 + shift, 100, 1000)) for shift in (5, 20, 80, 400)]
    assert values == sorted(values, reverse=True) and values[-1] == 0


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_every_runtime_sees_the_same_hand(runtime, detector, touching):
    pytest.importorskip({"litert": "ai_edge_litert"}.get(runtime, runtime))
    other = HandFaceDetector(DetectorConfig(RuntimeConfig(runtime)))
    (want,), (got,) = detector.annotate([touching]), other.annotate([touching])
    assert len(got.hands) == len(want.hands) == 1 and got.hands[0].side == want.hands[0].side
    hand, face = (max(seen.box[2] - seen.box[0], seen.box[3] - seen.box[1]) for seen in (want.hands[0], want.faces[0]))
    np.testing.assert_allclose(got.hands[0].keypoints, want.hands[0].keypoints, atol=0.02 * hand)
    np.testing.assert_allclose(got.faces[0].mesh, want.faces[0].mesh, atol=0.01 * face)


def test_both_hands_at_a_face_are_found(detector):
    from handface.jobs.demonstration.pictures import Portrait, _photos, with_hand

    astronaut = _photos()[0]
    other_way = Portrait(with_hand(astronaut)[:, ::-1].copy(), cheek=(511 - 258.0, 138.0), scale=astronaut.scale)
    picture = with_hand(other_way)[:, ::-1].copy()
    (found,) = detector.annotate([picture])
    right, left = sorted(found.hands, key=lambda hand: hand.box[0])
    assert (right.side, left.side) == ("right", "left")
    assert hand_agreement(right, left) < 0.3 and min(right.agreement, left.agreement) > 0.7


def test_two_hands_at_one_face_are_not_of_one_side(astronaut):
    (face,) = astronaut.faces
    first, second = (replace(hand_at(x, 130, 600), side="right", side_score=s) for x, s in ((190, 0.9), (250, 0.6)))
    assert [hand.side for hand in oppose_sides([first, second], [face])] == ["right", "left"]
    sure = replace(second, side_score=0.99), replace(first, side_score=0.98)
    assert oppose_sides(list(sure), [face]) == list(sure)
    # another person's hand may be there, or one far from the face
    for hands, faces in (([first, second], [face, face]), ([first, replace(hand_at(450, 450, 600))], [face])):
        assert oppose_sides(hands, faces) == hands


class Moody:
    """A detector that fails on black pictures."""

    def annotate(self, images, boxes=None):
        if any(not image.any() for image in images):
            raise NetworkError("output is not finite")
        return [Detections() for _ in images]

    def records(self):
        return ()


def test_a_failure_costs_the_picture_it_is_on():
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 90, np.uint8)
    answers = Analyser(Moody(), None).analyse([grey, black, grey])
    assert [isinstance(answer, DetectorError) for answer in answers] == [False, True, False]
    assert "NetworkError: output is not finite" in str(answers[1])


def test_a_process_may_fork_after_the_detector_was_closed() -> None:
    code = (
        "import os, numpy as np\n"
        "from handface.model.prediction.prediction import NobodyFoundError\n"
        "from handface.predict.people import PeopleDetector\n"
        "detector = PeopleDetector()\n"
        "try:\n    detector(np.zeros((200, 200, 3), np.uint8))\n"
        "except NobodyFoundError:\n    pass\n"
        "detector.close()\n"
        "child = os.fork()\n"
        "if not child:\n    os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
