import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.annotators.selfie_segmenter import BODY_SKIN, FACE_SKIN
from handface.pipeline.annotators.silhouette import face_scale, hand_mask, hand_skin
from handface.pipeline.contract.detections import Hand
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.contact import ContactStage
from handface.pipeline.stages.contact_evidence import (
    ContactConfig,
    ContactEvidence,
    contact_evidence,
    face_in_hand,
    scale_ratio,
)
from tests.pipeline.people import face_at, hand_at

CONFIG = ContactConfig()


def judged(*hands: Hand) -> Record:
    record = Record(SourceItem("x"), faces=[face_at(300, 300, 1000)], hands=list(hands))
    ContactStage()([record])
    return record


def test_scales_are_those_the_figures_were_drawn_with():
    assert face_scale(face_at(50, 60, 800)) == pytest.approx(800, rel=0.01)
    assert scale_ratio(face_at(0, 0, 800), hand_at(0, 0, 800)) == pytest.approx(1, rel=0.01)
    assert scale_ratio(face_at(0, 0, 800), hand_at(0, 0, 1200)) == pytest.approx(1.5, rel=0.01)


@settings(deadline=None)  # the first call imports OpenCV
@given(scale=st.floats(0.5, 8), dx=st.floats(-500, 500), dy=st.floats(-500, 500), gap=st.floats(-0.3, 0.3))
def test_evidence_does_not_depend_on_place_or_size(scale, dx, dy, gap):
    here = contact_evidence(face_at(300, 300, 300), hand_at(300 + 300 * gap, 330, 300))
    there = contact_evidence(
        face_at(300 * scale + dx, 300 * scale + dy, 300 * scale),
        hand_at((300 + 300 * gap) * scale + dx, 330 * scale + dy, 300 * scale),
    )
    assert there.overlap == pytest.approx(here.overlap, abs=0.01)
    assert there.scale_ratio == pytest.approx(here.scale_ratio, abs=0.01)


def test_a_finger_on_the_mouth_is_kept_and_its_hand_comes_first():
    touching, far = hand_at(300, 345, 1000, "left"), hand_at(700, 500, 1000)
    record = judged(far, touching)
    assert record.alive and record.person_hands == [touching]
    assert record.scores.contact > CONFIG.threshold and record.scores.proximity == 1


def test_a_hand_beside_the_face_is_far():
    record = judged(hand_at(300 + 170, 300, 1000))
    assert record.reason is Reason.HAND_FAR and "face sizes" in record.detail


def test_a_hand_much_too_large_to_be_at_the_face_is_in_front_of_it():
    record = judged(hand_at(300, 345, 2600))
    assert record.reason is Reason.HAND_OCCLUDES and "too large" in record.detail


def test_a_finger_that_crosses_the_face_between_two_keypoints_counts():
    hand = hand_at(300, 345, 1000)
    crossing = hand.keypoints.copy()
    crossing[:, 0] -= 2000
    crossing[7], crossing[8] = (150, 330, 1), (450, 330, 1)  # both ends outside, the bone runs across the mouth
    evidence = contact_evidence(face_at(300, 300, 1000), Hand(crossing, "right", 0.9))
    assert evidence.overlap > 0.1


@given(gap=st.floats(0, 0.9), ratio=st.floats(0.7, 1.5))
def test_more_reach_never_lowers_the_score_of_a_hand_that_covers_little(gap, ratio):
    face = face_at(0, 0, 1000)
    less, more = (contact_evidence(face, hand_at(0, 200 - 150 * g, 1000 * ratio)) for g in (gap, gap + 0.1))
    if more.coverage <= CONFIG.free_cover:
        assert more.score(CONFIG) >= less.score(CONFIG) - 1e-6


def test_a_hand_that_covers_much_of_the_face_is_likelier_in_front_of_it():
    little, much = (ContactEvidence(0.2, 1.0, 0.8, cover) for cover in (0.05, 0.6))
    assert little.score(CONFIG) > CONFIG.threshold > much.score(CONFIG)


def test_a_palm_is_no_face_and_a_cheek_is_no_hand():
    face, hand = face_at(300, 300, 300), hand_at(340, 170, 1500)
    record = Record(SourceItem("x"), faces=[face], hands=[hand])
    assert face_in_hand(face, hand) > 0.9
    ContactStage()([record])
    assert record.reason is Reason.NO_FACE and "a palm taken for a face" in record.detail
    face, hand = face_at(300, 300, 1000), hand_at(300, 345, 1000)
    cheek = np.full((700, 600), FACE_SKIN, np.uint8)
    record = Record(SourceItem("x"), faces=[face], hands=[hand], skin=cheek)
    ContactStage()([record])
    assert record.reason is Reason.NO_HAND and record.detail.endswith("0% skin where the hand should be")
    assert hand_skin(face, hand, np.full((700, 600), BODY_SKIN, np.uint8)) == 1


def test_unbroken_skin_decides_at_the_outline():
    face, hand = face_at(300, 300, 1000), hand_at(300, 398, 1000)  # the fingertip just below the chin
    skin = np.zeros((700, 600), np.uint8)
    skin[200:391, 225:375] = FACE_SKIN
    drawn = hand_mask(hand, 1000, skin.shape, np.zeros(2))
    touching = np.where((drawn > 0) | (np.indices(skin.shape)[0] > 390), BODY_SKIN, skin).astype(np.uint8)
    apart = np.where(drawn > 0, BODY_SKIN, skin).astype(np.uint8)
    apart[370:405][apart[370:405] == FACE_SKIN] = 4  # a collar between the two
    with_skin, without = contact_evidence(face, hand, touching), contact_evidence(face, hand, apart)
    assert with_skin.skin_touch > 0.1 > without.skin_touch
    assert with_skin.score(CONFIG) > without.score(CONFIG)


def test_a_hand_outside_the_photo_is_no_problem():
    evidence = contact_evidence(face_at(5, 5, 400), hand_at(-60, 10, 400), np.full((40, 40), FACE_SKIN, np.uint8))
    assert np.isfinite(evidence.score(CONFIG))


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_no_score_can_have_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="scores lie between 0 and 1"):
        ContactConfig(threshold=threshold)
