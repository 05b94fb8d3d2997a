"""One hand's attempt at a face, and a second hand's beside it: drawn, posed, brought in, and clear of the other hand and arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.fitting.distance import FitSurface
from handface.model.fitting.flesh import Touch
from handface.pipeline.synthesis.person.bodies import free_hand, free_head
from handface.pipeline.synthesis.person.identity import SyntheticPerson
from handface.pipeline.synthesis.touch.pose import MOST_STRAIN, TouchTarget, arm_direction, arm_strain, draw_plan
from handface.pipeline.synthesis.touch.solve import Approach, PlacedHand, allowance, arm_clear
from handface.pipeline.synthesis.touch.target import REGIONS, draw_target, region_vertices

Array = NDArray[np.float64]
FLIP = np.array([-1.0, 1.0, 1.0])
HAND_GAP = 0.002  # metres that two hands stay apart
SECOND_ATTEMPTS = 12  # at a second hand before the first is drawn anew
_OWN_SIDE = 0.012  # metres beyond the middle of the face that a hand of two reaches at most
_TARGETS_APART = 0.035  # metres between the places that two hands touch
_BOTH_SIDES = ("cheek", "jaw", "temple", "ear", "eye")  # regions that people touch with both hands at once
_BOTH_FACTOR = 4.0  # how much likelier the second hand goes to the same region of its own side
_ARMS_APART, _ARM_FROM_HAND = 0.075, 0.040  # metres from a forearm's axis to the other's, and to the other hand's skin


class Side:
    """The head as a right hand meets it: for a left hand in the mirror x -> -x; vertex numbers stay. head: (V, 3) undeformed."""

    def __init__(self, head: Array, left: bool) -> None:
        body = free_head()
        self.left, self.flip = left, FLIP if left else np.ones(3)
        self.head = head * self.flip
        self.surface = FitSurface(self.head, body.closed_faces[:, ::-1] if left else body.closed_faces)


@dataclass(frozen=True)
class Attempt:
    """A hand brought to its target, both in the axes of its `Side`."""

    target: TouchTarget
    grip: str
    hand: PlacedHand


@dataclass(frozen=True)
class SecondHand:
    """The other hand of a scene with two. All but `touch` as in `Scene`: the right model's, for `left` in the mirror."""

    left: bool
    region: str
    grip: str
    hand: PlacedHand
    touch: Touch
    target: TouchTarget

    def mirrored(self, points: Array) -> Array:
        """Hand points (..., 3) of the right-handed solution as they are in the scene."""
        return points * FLIP if self.left else points


def draw_attempt(
    rng: np.random.Generator,
    side: Side,
    region: str,
    person: SyntheticPerson,
    *,
    touch: bool,
    paired: bool = False,
    away: Array | None = None,
) -> Attempt | None:
    """A hand at a region, pressed in if it is to `touch`; None if no arm can do that or the hand misses the face.

    paired: the hand is one of two. Each of them stays on its own half of the face, so that arms do not cross.
    away: (3,) a place, in the side's axes, that the target must not be near.
    """
    target = draw_target(rng, side.head, side.surface.vertex_normals, region)
    plan = draw_plan(rng, target)
    if arm_strain(plan.rotation) > MOST_STRAIN:
        return None
    press = float(rng.uniform(0.1, 1.0) if touch else 0.0)
    if away is not None and np.linalg.norm(target.point - away) <= _TARGETS_APART:
        return None
    approach = Approach(side.surface, allowance(press), person.hand_betas)
    if paired:  # what the arm will not reach is seen before the costly approach
        planned = approach.posed(plan.pose, plan.rotation, np.zeros(3))
        planned = planned.moved(target.point - planned.vertices[plan.anchor].mean(0))
        if target.point[0] > _OWN_SIDE or not arm_clear(planned, side.surface, side.head):
            return None
    hand = approach.place(plan, target)
    if hand is None or (paired and not arm_clear(hand, side.surface, side.head)):
        return None
    return Attempt(target, plan.grip, hand)


def draw_second(
    rng: np.random.Generator,
    side: Side,
    first: Attempt,
    first_side: Side,
    regions: tuple[str, ...],
    person: SyntheticPerson,
) -> Attempt | None:
    """A second hand, of the other side, that leaves the first (a paired one) alone; None if none of a few attempts does."""
    taken = first.target.region
    # lids are closed only when the first hand goes to an eye
    names = [name for name in regions if name != "eye" or taken == "eye"]
    weights = np.array([REGIONS[n] * (_BOTH_FACTOR if n == taken and n in _BOTH_SIDES else 1.0) for n in names])
    away = first.target.point * FLIP  # in the other side's axes
    if not _has_room(side, names, away):
        return None
    for _ in range(SECOND_ATTEMPTS):
        region = str(rng.choice(names, p=weights / weights.sum()))
        second = draw_attempt(rng, side, region, person, touch=True, paired=True, away=away)
        if second is not None and _apart(first.hand, first_side.left, second.hand):
            return second
    return None


def hand_gap(first: Array, second: Array, *, first_left: bool) -> float:
    """Least signed distance in metres between two hands' closed surfaces, negative if they intersect.

    first, second: (H, 3) as they are in the scene, of opposite sides.  Vertices of each are measured against the other.
    """
    faces = free_hand().closed_faces
    turned = faces[:, ::-1]
    to_first = FitSurface(first, turned if first_left else faces).signed_distance(second).min()
    to_second = FitSurface(second, faces if first_left else turned).signed_distance(first).min()
    return float(min(to_first, to_second))


def _has_room(side: Side, regions: list[str], away: Array) -> bool:
    """Whether any of the regions has a place for a paired hand far enough from `away` (3,)."""
    places = side.head[np.concatenate([region_vertices()[name] for name in regions])]
    apart: NDArray[np.bool_] = np.linalg.norm(places - away, axis=1) > _TARGETS_APART
    return bool((apart & (places[:, 0] < _OWN_SIDE)).any())


def _apart(first: PlacedHand, first_left: bool, second: PlacedHand) -> bool:
    """Whether two hands of opposite sides, each in its own axes, and their forearms stay clear of each other."""
    from scipy.spatial.distance import cdist

    mirrored = second.vertices * FLIP  # into the first one's axes
    one, other = _arm_axis(first), _arm_axis(second) * FLIP
    if cdist(one, other).min() < _ARMS_APART:
        return False
    if min(cdist(one, mirrored).min(), cdist(other, first.vertices).min()) < _ARM_FROM_HAND:
        return False
    flip = FLIP if first_left else np.ones(3)
    return hand_gap(first.vertices * flip, mirrored * flip, first_left=first_left) > HAND_GAP


def _arm_axis(hand: PlacedHand) -> Array:
    wrist = hand.vertices[free_hand().arrays.rings["wrist"]].mean(0)
    axis: Array = wrist + np.linspace(0.02, 0.24, 12)[:, None] * arm_direction(hand.rotation)
    return axis
