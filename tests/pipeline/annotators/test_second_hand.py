from dataclasses import replace

import numpy as np
import pytest

from handface.pipeline.annotators.analyser import Analyser
from handface.pipeline.annotators.detector import HandFaceDetector
from handface.pipeline.annotators.landmarks import hand_agreement
from handface.pipeline.annotators.networks.regions import NetworkPicture, Region, hand_region
from handface.pipeline.annotators.search.second import OneHand
from handface.pipeline.annotators.selfie_segmenter import BODY_SKIN, FACE_SKIN, SelfieSegmenter
from handface.pipeline.annotators.silhouette import face_scale, hand_mask
from handface.pipeline.contract.detections import Detections
from tests.pipeline.people import hand_at

pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def detector():
    return HandFaceDetector()


@pytest.fixture(scope="module")
def both_hands() -> np.ndarray:
    """The astronaut with a rendered hand at each cheek."""
    from handface.jobs.demonstration.pictures import Portrait, _photos, with_hand

    astronaut = _photos()[0]
    other_way = Portrait(with_hand(astronaut)[:, ::-1].copy(), cheek=(511 - 258.0, 138.0), scale=astronaut.scale)
    return with_hand(other_way)[:, ::-1].copy()


@pytest.fixture(scope="module")
def seen(detector, both_hands) -> Detections:
    return detector.annotate([both_hands])[0]


def skin_under(hands, face, image) -> np.ndarray:
    skin = np.zeros(image.shape[:2], np.uint8)
    for hand in hands:
        skin[hand_mask(hand, face_scale(face), image.shape[:2], np.zeros(2)) > 0] = BODY_SKIN
    return skin


@pytest.mark.parametrize("lost", [0, 1])
def test_the_hand_that_is_lost_is_found_where_bare_skin_shows_it(detector, both_hands, seen, lost):
    face, hands = seen.faces[0], seen.hands
    skin = skin_under(hands, face, both_hands)
    case = OneHand(NetworkPicture(both_hands), face, hands[1 - lost], skin)
    (found,) = detector.find_second_hands([case])
    assert hand_agreement(found, hands[lost]) > 0.8
    assert found.found_by == "bare skin" and found.agreement > 0.7 and found.palm_score is None
    # answers do not depend on the batch
    nothing = replace(case, skin=np.zeros_like(skin))
    assert [hand is None for hand in detector.find_second_hands([nothing, case, nothing])] == [True, False, True]
    assert np.array_equal(detector.find_second_hands([nothing, case])[1].keypoints, found.keypoints)


def test_no_hand_is_taken_from_a_face_or_twice(detector, both_hands, seen):
    face, hands = seen.faces[0], seen.hands
    picture = NetworkPicture(both_hands)
    of_face = skin_under(hands, face, both_hands)
    of_face[of_face == BODY_SKIN] = FACE_SKIN
    only_first = skin_under(hands[:1], face, both_hands)
    everything = np.full_like(only_first, BODY_SKIN)
    cases = [OneHand(picture, face, hands[0], skin) for skin in (of_face, only_first, everything)]
    not_hand, same_hand, any_skin = detector.find_second_hands(cases)
    assert not_hand is None and same_hand is None
    assert any_skin is None or hand_agreement(any_skin, hands[1]) > 0.7


class Forgetful(HandFaceDetector):
    """Loses the hand that is more to the right."""

    def annotate(self, images, boxes=None):
        found = super().annotate(images, boxes)
        return [replace(one, hands=tuple(sorted(one.hands, key=lambda hand: hand.box[0])[:1])) for one in found]


def test_the_analyser_looks_for_the_second_hand_only_where_there_is_a_skin_map(both_hands, seen):
    forgetful = Forgetful()
    images = [both_hands, np.zeros((40, 60, 3), np.uint8)]
    blind, _ = Analyser(forgetful, None).analyse(images)
    assert len(blind.found.hands) == 1
    whole, empty = Analyser(forgetful, SelfieSegmenter()).analyse(images)
    assert empty.found == Detections()
    assert sorted(hand.side for hand in whole.found.hands) == ["left", "right"]
    assert all(max(hand_agreement(hand, other) for other in seen.hands) > 0.7 for hand in whole.found.hands)


@pytest.mark.parametrize("turn", [0.0, 0.7, -2.0])
def test_a_hand_stands_upright_in_its_own_crop(turn):
    points = hand_at(100, 100, 600).keypoints[:, :2].astype(np.float64)
    around = points.mean(0)
    turned = Region(0, 0, 1, 1, turn).affine((1, 1))[:, :2]
    region = hand_region(((points - around) @ turned.T + around).astype(np.float32))
    upright = hand_region(points.astype(np.float32))
    assert region.width == region.height == pytest.approx(upright.width, rel=1e-4)
    assert np.cos(region.rotation - upright.rotation - turn) == pytest.approx(1, abs=1e-4)
    assert np.hypot(region.x - around[0], region.y - around[1]) < region.width / 2
