"""Touch without passing through: the hand is brought to the skin, the skin yields, and contact is what then touches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.arrays import BodyArrays
from handface.model.fitting.config import TOUCHES
from handface.model.fitting.contact import CONTACT_REACH, contact_probability, in_contact
from handface.model.fitting.distance import nearest_vertex
from handface.model.fitting.flesh import Flesh, closed_faces, measure_touch
from handface.model.fitting.sight import meet_skin
from handface.model.prediction.prediction import CONTACT_PROBABILITY, Part

Array = NDArray[np.float64]
_GRAZE = 0.0008  # metres that a touching hand is pressed into the resting skin at least
_PRESS = 0.010  # metres that the softest skin yields at most
_CLEAR = 0.002  # metres that a hand keeps which does not touch
_APART = 0.005  # metres between the surfaces from which on nothing touches, whatever the network says


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
        no more than it yields, and is moved to the nearer end of that range otherwise. NaN: its line never meets the skin.
        """
        ray = hand.mean(0) / np.linalg.norm(hand.mean(0))
        points = hand[self._facing(hand, head)]
        met = meet_skin(points, ray, head, self.flesh.faces, back)
        if not len(met.offset):
            return float("nan") if touches else 0.0
        if not touches:
            return min(met.first(np.full(len(met.offset), -_CLEAR)), 0.0)
        graze = met.first(np.full(len(met.offset), _GRAZE))
        if graze >= 0:
            return graze
        pressed = met.first((self.allowance[met.corners] * met.weights).sum(1))
        return min(max(pressed, graze), 0.0)

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
    resting, pressing = head.vertices.astype(np.float64), hand.vertices.astype(np.float64)
    moved = touching.flesh.yield_to(resting, pressing)
    vertices = resting + moved
    touch = measure_touch(vertices, pressing, touching.flesh.faces, touching.hand_faces, touching.cavity)
    apart = not touch.hand_contact.any() and (presence < TOUCHES or float(touch.hand_distance.min()) > _APART)
    if apart:
        hand_contact, head_contact = np.zeros_like(hand.contact), np.zeros_like(head.contact)
    else:
        hand_gap = nearest_vertex(pressing, vertices, CONTACT_REACH)
        head_gap = nearest_vertex(vertices, pressing, CONTACT_REACH)
        hand_contact = contact_probability("hand", hand.contact, hand_gap)
        # without a guess; a network knows better which part of the hand it is
        if not (hand_contact > CONTACT_PROBABILITY).any():
            hand_contact = in_contact(hand_contact, touch.hand_contact)
        # skin that yields is in contact
        head_contact = in_contact(contact_probability("head", head.contact, head_gap), touch.head_contact)
    return (
        replace(hand, contact=hand_contact, deformation=np.zeros_like(hand.vertices)),
        replace(
            head,
            vertices=vertices.astype(np.float32),
            contact=np.where(touching.cavity, np.float32(0), head_contact),
            deformation=(-moved).astype(np.float32),
        ),
    )
