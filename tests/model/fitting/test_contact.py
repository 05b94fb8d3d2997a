"""Contact after a fit: the network's guess weighed by the gap, and what touches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from handface.model.fitting.contact import CONTACT_REACH, contact_probability, cut, in_contact
from handface.model.fitting.flesh import Touch, measure_touch
from handface.model.fitting.touch import Touching, settle
from handface.model.prediction.prediction import CONTACT_PROBABILITY, Part, Person
from tests.model.fitting.scenes import detection, picture

KINDS = ["hand", "head"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_rises_with_the_guess_and_falls_with_the_gap(kind: str) -> None:
    guess, gap = np.full(200, 0.02, np.float32), np.full(200, 0.004)
    guess[:20] = np.linspace(0.05, 0.9, 20)
    assert (np.diff(contact_probability(kind, guess, gap)[:20]) > 0).all()
    level = np.full(200, 0.3, np.float32)
    found = contact_probability(kind, level, np.linspace(0, 0.012, 200))
    assert (np.diff(found) < 0).all() and found[0] > CONTACT_PROBABILITY
    assert not contact_probability(kind, level, np.full(200, np.inf)).any()
    assert not contact_probability(kind, level, np.full(200, CONTACT_REACH)).any()


@pytest.mark.parametrize("seed", range(5))
def test_a_persons_vertices_are_parted_where_the_expected_f1_is_best(seed: int) -> None:
    """Against a drawn truth: no other number of the likeliest vertices has a better mean F1 by more than what is left to chance."""
    rng = np.random.default_rng(seed)
    score = np.sort(rng.normal(-2.5, 1.5, 60))[::-1]
    true = rng.random((40_000, 60)) < 1 / (1 + np.exp(-score))
    hits, count = np.cumsum(true, 1), np.arange(1, 61)
    means = (2 * hits / (count + true.sum(1)[:, None])).mean(0)
    chosen = int((score > cut(score)).sum())
    assert 1 <= chosen < 60 and means[chosen - 1] > means.max() - 0.01
    assert cut(score[:1]) < score[0] and cut(np.full(9, -4.0)) < -4


def test_without_a_guess_nothing_is_said() -> None:
    for guess, gap in ((0.0, 0.001), (0.9, np.inf)):
        assert not contact_probability("hand", np.full(30, guess, np.float32), np.full(30, gap)).any()


def test_what_touches_is_in_contact_and_no_less_than_it_was() -> None:
    found = in_contact(np.float32([0.1, 0.1, 0.9]), np.array([True, False, True]))
    assert found.tolist() == pytest.approx([0.52, 0.1, 0.9]) and found[0] > CONTACT_PROBABILITY


@pytest.fixture(scope="module")
def pressing() -> tuple[Touching, Part, Part]:
    """A hand that lies on the skin and a head at rest, without a network's guess, and what the touch of both needs."""
    from handface.model.bodies import load_arrays
    from handface.model.fitting.keypoints import fit_keypoints

    bodies = load_arrays("free-hand"), load_arrays("free-head")
    people: list[Person] = fit_keypoints([detection(k) for k in range(6)], [picture(k) for k in range(6)])
    person = next(one for one in people if one.side == "right" and np.abs(one.head.deformation).max() > 0.001)
    resting = replace(
        person.head,
        vertices=person.head.vertices + person.head.deformation,
        contact=np.zeros_like(person.head.contact),
    )
    return Touching.of(*bodies), replace(person.hand, contact=np.zeros_like(person.hand.contact)), resting


def touch_of(touching: Touching, hand: Part, head: Part) -> Touch:
    meshes = head.vertices.astype(float), hand.vertices.astype(float)
    return measure_touch(*meshes, touching.flesh.faces, touching.hand_faces, touching.cavity)


def test_without_a_guess_contact_is_what_touches(pressing: tuple[Touching, Part, Part]) -> None:
    touching, hand, head = pressing
    fingers, face = settle(touching, hand, head, presence=0.9)
    touch = touch_of(touching, hand, face)
    assert touch.hand_contact.any() and touch.head_contact.any()
    np.testing.assert_array_equal(fingers.contact > CONTACT_PROBABILITY, touch.hand_contact)
    np.testing.assert_array_equal(face.contact > CONTACT_PROBABILITY, touch.head_contact & ~touching.cavity)


def test_of_the_hand_the_network_says_which_part_it_is(pressing: tuple[Touching, Part, Part]) -> None:
    touching, hand, head = pressing
    bare, _ = settle(touching, hand, head, presence=0.9)
    mine = np.flatnonzero(bare.contact > CONTACT_PROBABILITY)[:2]
    guess = np.full_like(hand.contact, 0.001)
    guess[mine] = 0.99
    fingers, face = settle(touching, replace(hand, contact=guess), head, presence=0.9)
    np.testing.assert_array_equal(np.flatnonzero(fingers.contact > CONTACT_PROBABILITY), mine)
    assert (face.contact[touch_of(touching, hand, face).head_contact & ~touching.cavity] > CONTACT_PROBABILITY).all()
