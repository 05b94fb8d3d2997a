"""Brings a planned hand to the face: straight in until tissue would be pressed too far, then each finger by its own bend."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from handface.model.fitting.distance import FitSurface
from handface.pipeline.synthesis.person.bodies import SceneBody, free_hand, free_head
from handface.pipeline.synthesis.touch.deform import face_flesh
from handface.pipeline.synthesis.touch.pose import FINGERS, HandPlan, TouchTarget, arm_direction, bend, finger_vertices

Array = NDArray[np.float64]
BENDS = np.array([-24.0, -16.0, -8.0, 0.0, 8.0, 16.0, 26.0, 38.0])  # degrees added to a finger, shared out by _SHARE
_SHARE = np.array([0.7, 1.0, 0.5])
_START, _REACH = 0.06, 0.16  # metres: where the approach starts and after which it has missed
_SETTLE = 0.05  # metres out of the face from where a moving hand is brought back to it
_ARM_RADIUS = 0.018  # metres from the forearm's axis that head and neck must leave
_CHEST = np.array([0.18, 1.0, 0.08])  # metres, half width and depth of the trunk below the neck
CLEAR = 0.002  # metres kept by fingers that are not to touch


@dataclass(frozen=True)
class PlacedHand:
    """A hand in head axes, metres. vertices: (V, 3).  keypoints: (21, 3).  pose: (15, 3).  rotation: (3, 3) and translation: (3,)
    take the canonical hand there: x -> R x + t.
    """

    vertices: Array
    keypoints: Array
    pose: Array
    rotation: Array
    translation: Array

    def moved(self, offset: Array) -> PlacedHand:
        """The same hand elsewhere."""
        return PlacedHand(
            self.vertices + offset, self.keypoints + offset, self.pose, self.rotation, self.translation + offset
        )


@cache
def _sparse_vertices() -> NDArray[np.int64]:
    """A few hundred hand vertices that stand for all in the search: the decimated mesh and the parts that touch."""
    from handface.pipeline.synthesis.touch.pose import hand_parts

    return np.unique(np.concatenate([free_hand().arrays.levels[0].keep, *hand_parts().values()]))


@cache
def _sparse_finger(finger: str) -> NDArray[np.int64]:
    return np.intersect1d(_sparse_vertices(), finger_vertices(finger))


def allowance(press: float) -> Array:
    """How far each head vertex may be pressed in, (V,) metres: hardly over bone, up to 20 mm at press 1 on the softest skin."""
    stiffness = free_head().arrays.stiffness
    assert stiffness is not None
    softness = np.clip(1 - stiffness.astype(np.float64), 0, 1)
    softness *= 1 - 0.8 * np.clip(free_head().arrays.masks["ears"], 0, 1)  # cartilage
    yields = np.zeros(len(softness))
    yields[face_flesh().skin.rows] = 1
    return 0.0004 + press * 0.020 * yields * softness**1.5


def arm_clear(hand: PlacedHand, surface: FitSurface, head: Array) -> bool:
    """Whether the forearm passes neither through head and neck nor through the chest. surface, head: (V, 3) of the head.

    Only its axis and a part of its thickness count, as clothes and flesh give way; the elbow's end may lie at the chest.
    """
    hand_ring, neck_ring = free_hand().arrays.rings["wrist"], free_head().arrays.rings["neck"]
    wrist, neck = hand.vertices[hand_ring].mean(0), head[neck_ring].mean(0)
    axis = wrist + np.linspace(0.02, 0.22, 9)[:, None] * arm_direction(hand.rotation)
    chest = (axis - neck) / _CHEST
    inside = (chest[:, 1] < 0) & (chest[:, 0] ** 2 + chest[:, 2] ** 2 < 1)
    return not inside.any() and bool((surface.signed_distance(axis, candidates=8) > _ARM_RADIUS).all())


class Approach:
    """The search for one attempt. head: surface of the rest head.  allow: (V,) metres per head vertex.  betas: hand shape."""

    def __init__(self, surface: FitSurface, allow: Array, betas: Array) -> None:
        self.surface, self.allow, self.betas = surface, allow, betas
        self.hand: SceneBody = free_hand()

    def place(self, plan: HandPlan, target: TouchTarget) -> PlacedHand | None:
        """The hand at the target, pressed in as far as the tissue allows; None if it misses the face."""
        placed = self.posed(plan.pose, plan.rotation, np.zeros(3))
        start = target.point + _START * target.normal - placed.vertices[plan.anchor].mean(0)
        arrived = self._advance(placed.moved(start), -target.normal, _REACH)
        if arrived is None:
            return None
        bent = self.posed(self._bend_fingers(arrived, plan), plan.rotation, arrived.translation)
        return self._advance(bent, -target.normal, 0.05)

    def clearance(self, placed: PlacedHand, direction: Array) -> float | None:
        """Metres along the unit `direction` (3,), out of the face, by which a hand must move to be pressed in exactly as far as
        the tissue allows; negative if there is room. None if that is not within 5 cm.
        """
        start = placed.moved(_SETTLE * direction)
        settled = self._advance(start, -direction, 2 * _SETTLE)
        return None if settled is None else float((settled.translation - placed.translation) @ direction)

    def slack(self, points: Array) -> Array:
        """How much farther each of (N, 3) points could go in before it presses too much, metres; negative if it does."""
        near = self.surface.closest(points, candidates=6)
        allow = (self.allow[self.surface.faces[near.face]] * near.weights).sum(1)
        return near.distance + allow

    def posed(self, pose: Array, rotation: Array, translation: Array) -> PlacedHand:
        """The hand of a pose (15, 3), turned by rotation (3, 3) and moved by translation (3,)."""
        out = self.hand.posed(self.betas, pose[None])
        return PlacedHand(
            out.vertices[0] @ rotation.T + translation,
            out.keypoints[0] @ rotation.T + translation,
            pose,
            rotation,
            translation,
        )

    def _advance(self, placed: PlacedHand, direction: Array, reach: float) -> PlacedHand | None:
        """Sphere tracing with all points at once: the least slack is a safe step. None when nothing is met within `reach`."""
        points = placed.vertices[_sparse_vertices()]
        travelled = 0.0
        slack = self.slack(points)
        if slack.min() < 0:  # start outside: back off first
            travelled = -min(0.05, float(-slack.min()) + 0.01)
        for _ in range(16):
            close = self.slack(points + travelled * direction).min()
            if abs(close) < 0.0003:
                break
            travelled += 0.95 * close
            if travelled > reach:
                return None
        return placed.moved(travelled * direction)

    def _bend_fingers(self, placed: PlacedHand, plan: HandPlan) -> Array:
        """Bend touching fingers until they do, keep the others clear. Returns the new pose (15, 3)."""
        fingers = list(plan.fingers)
        poses = np.repeat(placed.pose[None], len(BENDS), 0)
        for f in fingers:
            row = 3 * FINGERS.index(f)
            poses[:, row : row + 3] += np.stack([bend(f, d * _SHARE) for d in BENDS])
        hands = self.hand.posed(self.betas, poses).vertices @ placed.rotation.T + placed.translation
        rows = [_sparse_finger(f) for f in fingers]
        slack = self.slack(hands[:, np.concatenate(rows)].reshape(-1, 3)).reshape(len(BENDS), -1)
        pose = placed.pose.copy()
        begin = 0
        for f, mine in zip(fingers, rows, strict=True):
            least = slack[:, begin : begin + len(mine)].min(1)
            begin += len(mine)
            row = 3 * FINGERS.index(f)
            pose[row : row + 3] += bend(f, _chosen(least, plan.fingers[f]) * _SHARE)
        return pose


def _chosen(least: Array, touch: bool) -> float:
    """Degrees to add to a finger whose least slack at each of BENDS is `least`: first touch when bending, or staying clear."""
    rest = int(np.flatnonzero(BENDS == 0)[0])
    margin = 0.0 if touch else CLEAR
    if least[rest] >= margin:
        if not touch:
            return 0.0
        for k in range(rest, len(BENDS) - 1):
            if least[k + 1] < 0:
                return float(BENDS[k] + (BENDS[k + 1] - BENDS[k]) * least[k] / (least[k] - least[k + 1]))
        return 0.0  # the face is out of this finger's reach: leave it as it was held
    best = rest
    for k in range(rest - 1, -1, -1):  # straighten
        if least[k] >= margin:
            share = (least[k] - margin) / max(least[k] - least[k + 1], 1e-9)
            return float(BENDS[k] + (BENDS[k + 1] - BENDS[k]) * np.clip(share, 0, 1))
        best = k if least[k] > least[best] else best
    return float(BENDS[best])
