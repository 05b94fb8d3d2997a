"""Touch without passing through: the hand is brought to the skin, the skin yields, and contact is what then touches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.arrays import BodyArrays
from handface.model.fitting.distance import Surface
from handface.model.fitting.flesh import CONTACT, Flesh, closed_faces, measure_touch
from handface.model.prediction.prediction import Part

Array = NDArray[np.float64]
_PRESS = 0.0015  # metres that a touching hand is pressed into the resting skin
_CLEAR = 0.002  # metres that a hand keeps which does not touch
_REACH = 0.06  # metres along the view that the hand is moved at most
_BACK = 0.12  # metres towards the camera from where it is brought in
_MARGIN = 0.05  # metres round the hand in which the head's triangles count
_SOFT = 0.0006  # metres over which the contact probability falls


@dataclass(frozen=True)
class Touching:
    """What the touch of one pair of bodies needs; made once."""

    flesh: Flesh
    hand_faces: NDArray[np.int64]
    cavity: NDArray[np.bool_]

    @classmethod
    def of(cls, hand: BodyArrays, head: BodyArrays) -> Touching:
        """From the bodies' arrays."""
        cavity = (
            np.asarray(head.masks["cavity"]) > 0.5 if "cavity" in head.masks else np.zeros(len(head.template), bool)
        )
        return cls(Flesh.of(head), closed_faces(hand), cavity)

    def offset(self, hand: Array, head: Array, touches: bool) -> float:
        """Metres along the hand's line of sight, away from the camera, that bring it to where it just presses, or clear of the skin.

        hand: (H, 3) and head: (V, 3) in camera space. 0 where the skin is out of reach, or nothing needs to move.
        """
        ray = hand.mean(0) / np.linalg.norm(hand.mean(0))
        depth = _PRESS if touches else -_CLEAR
        inside = self.deepest(hand, head)
        if not touches and inside <= depth:
            return 0.0
        moved = self._advance(hand, head, ray, depth)
        return moved if moved is not None and (touches or moved < 0) else 0.0

    def deepest(self, hand: Array, head: Array) -> float:
        """How deep the deepest hand vertex is in the head, metres, negative outside."""
        surface = self._surface(hand, head, 0.0)
        return -np.inf if surface is None else -float(surface.signed_distance(hand, candidates=6).min())

    def _surface(self, hand: Array, head: Array, reach: float) -> Surface | None:
        """The head's triangles near the hand and along the way it may go; None if there is none."""
        low, high = hand.min(0) - _MARGIN, hand.max(0) + _MARGIN
        low[2], high[2] = low[2] - reach, high[2] + reach
        near = ((head > low) & (head < high)).all(1)[self.flesh.faces].any(1)
        return Surface(head, self.flesh.faces[near]) if near.any() else None

    def _advance(self, hand: Array, head: Array, ray: Array, depth: float) -> float | None:
        """Sphere tracing from before the face: the offset at which the deepest vertex is `depth` inside; None out of reach."""
        surface = self._surface(hand, head, _BACK)
        if surface is None:
            return None
        points = hand[self._facing(hand, head)]
        if not len(points):
            return None
        travelled = -_BACK
        for _ in range(24):
            slack = float(surface.signed_distance(points + travelled * ray, candidates=6).min()) + depth
            if abs(slack) < 0.0002:
                break
            travelled += 0.95 * slack
            if travelled > _REACH:
                return None
        return travelled if travelled >= -_BACK else None

    @staticmethod
    def _facing(hand: Array, head: Array) -> NDArray[np.int64]:
        """Hand vertices that lie over the head in the picture, thinned: only they can meet it along the view."""
        flat_hand, flat_head = hand[:, :2] / hand[:, 2:], head[:, :2] / head[:, 2:]
        margin = 0.01 / head[:, 2].mean()
        over = ((flat_hand > flat_head.min(0) - margin) & (flat_hand < flat_head.max(0) + margin)).all(1)
        return np.flatnonzero(over)[::2]


def settle(touching: Touching, hand: Part, head: Part, presence: float) -> tuple[Part, Part]:
    """Let the face yield to a hand whose fit is done, and read contact off the result.

    head: undeformed. Contact is where the surfaces touch; deformation and vertices are consistent with each other.
    """
    resting, pressing = head.vertices.astype(np.float64), hand.vertices.astype(np.float64)
    moved = touching.flesh.yield_to(resting, pressing)
    vertices = resting + moved
    touch = measure_touch(vertices, pressing, touching.flesh.faces, touching.hand_faces, touching.cavity)
    hand_contact = 1 / (1 + np.exp((touch.hand_distance - CONTACT) / _SOFT))
    head_contact = touch.head_contact.astype(np.float64)
    return (
        replace(hand, contact=hand_contact.astype(np.float32), deformation=np.zeros_like(hand.vertices)),
        replace(
            head,
            vertices=vertices.astype(np.float32),
            contact=head_contact.astype(np.float32),
            deformation=(-moved).astype(np.float32),
        ),
    )
