"""Touch without passing through: the hand is brought to the skin, the skin yields, and contact is what then touches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.arrays import BodyArrays
from handface.model.fitting.distance import FitSurface
from handface.model.fitting.flesh import Flesh, closed_faces, measure_touch
from handface.model.prediction.prediction import Floats, Part

Array = NDArray[np.float64]
_GRAZE = 0.0008  # metres that a touching hand is pressed into the resting skin at least
_PRESS = 0.010  # metres that the softest skin yields at most
_CLEAR = 0.002  # metres that a hand keeps which does not touch
_REACH = 0.10  # metres along the view that the hand is moved at most
_NEAREST = 200  # hand points that are followed on their way: those that were nearest at first
_MARGIN = 0.05  # metres round the hand in which the head's triangles count
_APART = 0.005  # metres between the surfaces from which on nothing touches, whatever the network says
_CONTACT_REACH = 0.012  # metres to the other surface's nearest vertex within which a vertex may be in contact
# Logistic regression on 48 synthetic scenes seen through the detector: network's logit, gap in mm, exp(-gap / 6 mm), constant;
# 0.5 is where F1 is best.
_HAND_CONTACT = (0.96, 0.081, 0.57, 0.54)
_HEAD_CONTACT = (0.27, 0.106, 1.18, 0.05)


@dataclass(frozen=True)
class Touching:
    """What the touch of one pair of bodies needs; made once.

    hand_faces: (F, 3), closed.  cavity: (V,) head vertices that nothing touches.  allowance: (V,) metres that skin may be pressed in.
    """

    flesh: Flesh
    hand_faces: NDArray[np.int64]
    cavity: NDArray[np.bool_]
    allowance: Array

    @classmethod
    def of(cls, hand: BodyArrays, head: BodyArrays) -> Touching:
        """From the bodies' arrays."""
        flesh, count = Flesh.of(head), len(head.template)
        cavity = np.asarray(head.masks["cavity"]) > 0.5 if "cavity" in head.masks else np.zeros(count, bool)
        softness = np.zeros(count)
        softness[flesh.skin.rows] = np.clip(1 - flesh.stiffness[flesh.skin.rows], 0, 1)
        return cls(flesh, closed_faces(hand), cavity, _GRAZE + _PRESS * softness**1.5)

    def offset(self, hand: Array, head: Array, touches: bool, back: float) -> float:
        """Metres along the hand's line of sight, away from the camera, that bring it onto the skin, or clear of it.

        hand: (H, 3) and head: (V, 3) in camera space.  back: metres towards the camera from where it is brought in. A hand that touches stays where it is while it grazes the skin or presses it
        no more than it yields, and is moved to the nearer end of that range otherwise. 0 where the skin is out of reach.
        """
        surface = self._surface(hand, head, back)
        points = hand[self._facing(hand, head)]
        if surface is None or not len(points):
            return 0.0
        ray = hand.mean(0) / np.linalg.norm(hand.mean(0))
        if not touches:
            clear = self._meet(surface, points, ray, -back, np.full(len(head), -_CLEAR))
            return 0.0 if clear is None else min(clear, 0.0)
        graze = self._meet(surface, points, ray, -back, np.full(len(head), _GRAZE))
        if graze is None or graze >= 0:
            return graze or 0.0
        pressed = self._meet(surface, points, ray, graze, self.allowance)
        return graze if pressed is None else min(max(pressed, graze), 0.0)

    def _surface(self, hand: Array, head: Array, back: float) -> FitSurface | None:
        """The head's triangles near the hand and along the way it may go; None if there is none."""
        low, high = hand.min(0) - _MARGIN, hand.max(0) + _MARGIN
        high[2] += _REACH
        low[2] -= back
        near = ((head > low) & (head < high)).all(1)[self.flesh.faces].any(1)
        return FitSurface(head, self.flesh.faces[near]) if near.any() else None

    @staticmethod
    def _meet(surface: FitSurface, points: Array, ray: Array, start: float, allowance: Array) -> float | None:
        """Sphere tracing: the offset from `start` on at which the first of the points is as deep as the skin there allows.

        allowance: (V,) metres, negative: to be kept clear.  None if that is not within reach.
        """
        travelled = start
        for step in range(20):
            found = surface.closest(points + travelled * ray, candidates=6)
            allowed = (allowance[surface.faces[found.face]] * found.weights).sum(1)
            each = found.distance + allowed
            slack = float(each.min())
            if slack < 0.0003:
                break
            if step == 0 and len(points) > _NEAREST:
                points = points[np.argpartition(each, _NEAREST)[:_NEAREST]]
            travelled += 0.95 * slack
            if travelled > _REACH:
                return None
        return travelled

    @staticmethod
    def _facing(hand: Array, head: Array) -> NDArray[np.int64]:
        """Hand vertices that lie over the head in the picture, thinned: only they can meet it along the view."""
        flat_hand, flat_head = hand[:, :2] / hand[:, 2:], head[:, :2] / head[:, 2:]
        margin = 0.01 / head[:, 2].mean()
        over = ((flat_hand > flat_head.min(0) - margin) & (flat_hand < flat_head.max(0) + margin)).all(1)
        return np.flatnonzero(over)[::2]


def settle(touching: Touching, hand: Part, head: Part, presence: float) -> tuple[Part, Part]:
    """Let the face yield to a hand whose fit is done, and read contact off the result.

    hand, head: undeformed, in one space, with the contact that the network guessed.  presence: its probability that they touch.
    Vertices and deformation of the result are consistent; contact is where the surfaces are near and the network expects it.
    """
    from scipy.spatial import cKDTree

    resting, pressing = head.vertices.astype(np.float64), hand.vertices.astype(np.float64)
    moved = touching.flesh.yield_to(resting, pressing)
    vertices = resting + moved
    touch = measure_touch(vertices, pressing, touching.flesh.faces, touching.hand_faces, touching.cavity)
    apart = not touch.hand_contact.any() and (presence < 0.5 or float(touch.hand_distance.min()) > _APART)
    hand_gap, head_gap = cKDTree(vertices).query(pressing)[0], cKDTree(pressing).query(vertices)[0]
    return (
        replace(
            hand,
            contact=_contact(hand.contact, hand_gap, touch.hand_contact, _HAND_CONTACT, apart),
            deformation=np.zeros_like(hand.vertices),
        ),
        replace(
            head,
            vertices=vertices.astype(np.float32),
            contact=np.where(
                touching.cavity, 0, _contact(head.contact, head_gap, touch.head_contact, _HEAD_CONTACT, apart)
            ),
            deformation=(-moved).astype(np.float32),
        ),
    )


def _contact(
    guess: Floats, gap: Array, near: NDArray[np.bool_], weights: tuple[float, float, float, float], apart: bool
) -> Floats:
    """Contact probability (V,) from the network's guess and the gap to the other surface's nearest vertex, metres."""
    if apart:
        return np.zeros_like(guess)
    known = np.clip(np.nan_to_num(guess), 1e-4, 1 - 1e-4)
    millimetres = 1000 * gap
    by_guess, by_gap, by_touch, bias = weights
    score = by_guess * np.log(known / (1 - known)) - by_gap * millimetres + by_touch * np.exp(-millimetres / 6) + bias
    score = np.where(near, np.maximum(score, 0.1), score)  # what touches is in contact
    return np.where(gap < _CONTACT_REACH, 1 / (1 + np.exp(-score)), 0).astype(np.float32)
