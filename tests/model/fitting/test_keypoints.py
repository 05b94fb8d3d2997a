"""Fits of exact points: on the picture, out of the face, consistent, and honest about what cannot be fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handface.model.bodies import load_arrays, load_body
from handface.model.fitting.distance import FitSurface
from handface.model.fitting.flesh import closed_faces
from handface.model.fitting.keypoints import fit_keypoints, from_coco_wholebody
from handface.model.fitting.people import FitPicture, PeopleFitter
from handface.model.fitting.presence import face_overlap, touch_probability
from handface.model.fitting.quality import guess_residuals
from handface.model.network.decode import NamedBody
from handface.model.prediction.prediction import Detection, Person
from tests.model.fitting.scenes import SIZE, detection, labels, picture

NUMBERS = range(6)
BODIES = [NamedBody(load_arrays(f"free-{kind}"), f"free-{kind}", "free", ()) for kind in ("hand", "head")]


@pytest.fixture(scope="module")
def people() -> list[Person]:
    found = fit_keypoints([detection(k) for k in NUMBERS], [picture(k) for k in NUMBERS])
    assert {person.side for person in found} == {"left", "right"}
    return found


def test_keypoints_lie_on_the_given_ones_or_the_quality_says_not(people: list[Person]) -> None:
    for person in people:
        off = person.fit.residuals
        assert person.fit.fitted and off[17:68].mean() < 0.02
        assert (person.fit.quality > 0.6) == (off[68:].mean() < 0.04), person.fit
        size = np.ptp(person.detection.face[:, :2], axis=0).max()
        again = np.linalg.norm(person.camera.project(person.hand.keypoints_3d) - person.detection.hand[:, :2], axis=1)
        np.testing.assert_allclose(again / size, off[68:], atol=2e-3)
    assert sum(person.fit.quality > 0.6 for person in people) >= 4


def test_parameters_pose_the_bodies_onto_the_meshes(people: list[Person]) -> None:
    for person in people:
        for part, side in ((person.hand, person.side), (person.head, "right")):
            body = load_body(part.body, part.convention, side=side)
            out = body(**{name: torch.from_numpy(value)[None] for name, value in part.parameters.items()})
            np.testing.assert_allclose(out.vertices[0], part.vertices + part.deformation, atol=2e-4)
        assert np.abs((person.head.vertices + person.head.deformation).mean(0)).max() < 1e-4


def test_a_fitted_mesh_is_the_posed_body_without_what_the_network_drew_on_top(people: list[Person]) -> None:
    number, one = max(enumerate(people), key=lambda pair: pair[1].fit.quality)
    drawn = {
        kind: replace(getattr(one, kind), offset=np.full_like(getattr(one, kind).vertices, 0.02))
        for kind in ("hand", "head")
    }
    (again,) = PeopleFitter(*BODIES).fit([replace(one, **drawn)], [picture(number)])
    assert again.fit.fitted and again.hand.offset is None and again.head.offset is None


def test_the_hand_does_not_pass_through_the_face_and_contact_is_where_they_meet(people: list[Person]) -> None:
    faces = closed_faces(load_body("free-head", "free").arrays)
    touching = 0
    for person in people:
        depth = FitSurface(person.head.vertices, faces).signed_distance(person.hand.vertices)
        assert depth.min() > -0.005
        near = np.linalg.norm(person.hand.vertices[:, None] - person.head.vertices[::7][None], axis=2).min()
        touching += bool(depth.min() < 0.005 or near < 0.005)
        contact = person.hand.contact > 0.5
        if contact.any():
            assert np.abs(depth[contact]).max() < 0.015
    assert touching >= 5


def test_the_mirror_image_has_the_mirrored_answer() -> None:
    one = detection(next(k for k in NUMBERS if detection(k).side == "right"))
    from handface.model.bodies.names import IBUG_MIRROR

    flip = np.array([-1, 1, 1], np.float32)
    face, hand = (points * flip + [SIZE - 1, 0, 0] for points in (one.face[list(IBUG_MIRROR)], one.hand))
    other = Detection(face.astype(np.float32), hand.astype(np.float32), "left", 0.9)
    first, second = fit_keypoints([one, other], [FitPicture(SIZE, SIZE)] * 2)
    np.testing.assert_allclose(second.hand.vertices, first.hand.vertices * flip, atol=2e-3)
    np.testing.assert_allclose(second.camera.transl, first.camera.transl * flip, atol=2e-3)


def test_a_persons_fit_does_not_depend_on_who_is_fitted_with_them(people: list[Person]) -> None:
    world = {1: np.array(labels(1).hand_keypoints_3d, np.float32)}  # as some people have: they start in fewer ways
    mixed = [replace(detection(k), hand_world=world.get(k)) for k in NUMBERS]
    together = fit_keypoints(mixed, [picture(k) for k in NUMBERS])
    for k in (1, 2, 5):
        (alone,) = fit_keypoints([mixed[k]], [picture(k)])
        one = together[k]
        np.testing.assert_allclose(alone.hand.vertices, one.hand.vertices, atol=5e-5)
        np.testing.assert_allclose(alone.head.vertices, one.head.vertices, atol=5e-5)
        np.testing.assert_allclose(alone.camera.transl, one.camera.transl, atol=5e-5)
        np.testing.assert_allclose(alone.fit.quality, one.fit.quality, atol=1e-3)
    np.testing.assert_allclose(together[2].hand.vertices, people[2].hand.vertices, atol=5e-5)


@pytest.mark.parametrize("far", [2e3, 5e4, 1e12])
def test_a_wild_point_of_the_jaw_raises_no_quality(people: list[Person], far: float) -> None:
    one = detection(0)
    face = one.face.copy()
    face[3, 0] = far
    (person,) = fit_keypoints([replace(one, face=face)], [picture(0)])
    assert person.fit.quality <= people[0].fit.quality + 0.01
    assert replace(one, face=face).face_size <= 2 * one.face_size


def test_unseen_points_are_left_out() -> None:
    one = detection(0)
    hand = one.hand.copy()
    hand[[4, 8]] = [np.nan, np.nan, 0]
    (person,) = fit_keypoints([replace(one, hand=hand)], [picture(0)])
    assert person.fit.fitted and np.isnan(person.fit.residuals[[72, 76]]).all()
    assert np.nanmean(person.fit.residuals[17:68]) < 0.02 and np.isfinite(person.hand.vertices).all()


BAD = {
    "too few points": (lambda one: one.hand[5:, 2].fill(0), "5 hand points"),
    "no confidence": (lambda one: one.hand[:, 2].fill(0), "0 hand points"),
    "the jaw line alone": (lambda one: one.face[17:, 2].fill(0), "0 face points beside the jaw line"),
    "no face": (lambda one: one.face[:, 2].fill(0), "0 face points"),
    "not a number": (lambda one: one.face[3].fill(np.nan), "not finite"),
    "infinite": (lambda one: one.hand[3, :2].fill(np.inf), "not finite"),
    "one pixel": (lambda one: one.hand[:, :2].fill(40), "within 4 pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_fitted_comes_back_with_a_reason(name: str) -> None:
    spoil, reason = BAD[name]
    one = detection(0)
    one = replace(one, face=one.face.copy(), hand=one.hand.copy())
    spoil(one)
    bad, good = fit_keypoints([one, detection(1)], [picture(0), picture(1)])
    assert not bad.fit.fitted and bad.fit.quality == 0 and reason in bad.fit.reason
    assert good.fit.fitted  # the neighbour does not suffer


def test_points_of_two_people_have_low_quality() -> None:
    one = detection(0)
    moved = one.hand + np.float32([900, 0, 0])
    (far,) = fit_keypoints([replace(one, hand=moved)], [FitPicture(1200, SIZE)])
    assert far.fit.quality <= 0.2 and "two people" in far.fit.reason
    large = one.hand.copy()
    large[:, :2] = large[:, :2].mean(0) + 5 * (large[:, :2] - large[:, :2].mean(0))
    (giant,) = fit_keypoints([replace(one, hand=large)], [FitPicture(SIZE, SIZE)])
    assert giant.fit.quality < 0.5 and giant.fit.reason


def test_parameters_of_another_body_are_refused(people: list[Person]) -> None:
    hand = people[0].hand
    short = replace(hand, parameters=hand.parameters | {"pose": np.ravel(hand.parameters["pose"])[:-3]})
    with pytest.raises(ValueError, match=r"pose of a hand has \d+ values, its body takes \d+"):
        PeopleFitter(*BODIES).fit([replace(people[0], hand=short)], [picture(0)])


@pytest.mark.parametrize("focal", [0.0, -300.0, float("nan"), float("inf"), 5.0, 1e6])
def test_absurd_focal_lengths_are_refused(focal: float) -> None:
    with pytest.raises(ValueError, match="focal length"):
        fit_keypoints([detection(0)], [FitPicture(SIZE, SIZE, focal)])


def test_coco_wholebody_points_are_two_hands_of_one_person() -> None:
    points = np.zeros((133, 3), np.float32)
    points[23:91], points[112:133] = detection(0).face, 1
    (right,) = from_coco_wholebody(points)
    assert right.side == "right" and (right.hand == 1).all() and (right.face == detection(0).face).all()
    points[91:112] = 1
    assert [one.side for one in from_coco_wholebody(points)] == ["left", "right"]
    with pytest.raises(ValueError, match="133"):
        from_coco_wholebody(points[:100])


def test_presence_needs_a_hand_over_the_face() -> None:
    one = detection(0)
    away = replace(one, hand=one.hand + np.float32([0.8 * SIZE, 0, 0]))
    assert face_overlap(away) < 0 < face_overlap(one)
    nothing = np.zeros(100, np.float32)
    assert touch_probability(0.5, nothing, away) < 0.5 < touch_probability(0.5, nothing, one)


def test_presence_rises_with_all_that_speaks_for_touch() -> None:
    one = detection(0)
    away = replace(one, hand=one.hand + np.float32([0.8 * SIZE, 0, 0]))
    low, high = (np.full(100, value, np.float32) for value in (0.01, 0.9))
    usual = touch_probability(0.9, high, one)
    assert 0.5 < usual < 1
    assert touch_probability(0.2, high, one) < usual
    assert touch_probability(0.9, low, one) < usual
    assert touch_probability(0.9, high, away) < usual
    assert touch_probability(0.0, low, one) < 0.05


@pytest.mark.parametrize("number", [0, 1], ids=["right", "left"])
@pytest.mark.parametrize("hidden", [3, 36, 48])
def test_a_point_that_is_not_seen_changes_no_side_s_fit_and_has_no_residual(number: int, hidden: int) -> None:
    whole = detection(number)
    face = whole.face.copy()
    face[hidden] = [np.nan, 1e6, 0]
    before, after = fit_keypoints([whole, replace(whole, face=face)], [picture(number)] * 2)
    assert after.side == ("right", "left")[number] and after.fit.fitted
    assert after.fit.quality == pytest.approx(before.fit.quality, abs=0.05)
    assert np.flatnonzero(np.isnan(after.fit.residuals)).tolist() == [hidden]


def test_each_residual_is_that_of_its_own_point(people: list[Person]) -> None:
    for person in people:
        np.testing.assert_allclose(guess_residuals(person), person.fit.residuals, atol=2e-3)


def test_what_is_no_detection_and_no_picture_is_refused() -> None:
    good = detection(0)
    for wrong, said in [
        ({"side": "Left"}, "side is 'Left'"),
        ({"side": None}, "side is None"),
        ({"face": good.face[:, :2]}, r"face is \(68, 2\): an array of shape \(68, 3\)"),
        ({"hand": good.hand.astype(str)}, "hand is an array of <U32: one of real numbers"),
        ({"face": good.face.astype(object)}, "face is an array of object: one of real numbers"),
        ({"face": good.face.tolist()}, "face is list"),
        ({"hand": good.hand[:5]}, r"hand is \(5, 3\)"),
        ({"hand_world": good.hand[:5]}, r"hand_world is \(5, 3\)"),
    ]:
        with pytest.raises(ValueError, match=said):
            replace(good, **wrong)
    for size in ((0, 0), (-5, 10)):
        with pytest.raises(ValueError, match="at least 1x1"):
            FitPicture(*size)
    with pytest.raises(ValueError, match="principal point"):
        FitPicture(10, 10, centre=(float("nan"), 5))
    with pytest.raises(ValueError, match="1 people and 2 pictures"):
        fit_keypoints([good], [picture(0)] * 2)
