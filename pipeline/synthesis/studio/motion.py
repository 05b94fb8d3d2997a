"""A take: a hand comes to the face, presses and slides, and leaves, while the head moves and the expression changes, all smoothly.

    draw two touches -> a way between them -> frame by frame: pose head and hand, settle the hand on the skin -> the face yields

The touches come from the same plans and the same solve as single scenes (scene.py); what is between them is interpolated, then
moved along the skin's normal until no tissue is pressed farther than it allows. Only right hands, as in Decaf.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handface.model.fitting.distance import FitSurface
from handface.pipeline.synthesis.person.bodies import free_head
from handface.pipeline.synthesis.person.identity import SyntheticPerson, draw_expression
from handface.pipeline.synthesis.scene.scene import NoSceneError, Scene
from handface.pipeline.synthesis.touch.deform import measure, yield_to
from handface.pipeline.synthesis.touch.pose import (
    MOST_STRAIN,
    HandPlan,
    TouchTarget,
    arm_direction,
    arm_strain,
    draw_plan,
)
from handface.pipeline.synthesis.touch.solve import Approach, PlacedHand, allowance, arm_clear
from handface.pipeline.synthesis.touch.target import REGIONS, draw_target

Array = NDArray[np.float64]
ATTEMPTS = 30
MAX_DEPTH = 0.005  # metres that may be left of the overlap in any frame
_FARTHEST = 0.11  # metres from the face where a hand comes from and goes to
_SLIDE = (0.004, 0.032)  # metres between the two touches of a take
_FULL = 40  # frames of a take in which hand and head move all the way
_OPEN = 0.8  # share of the fingers' bend that a hand far away keeps
_JAW = np.deg2rad(4)
EXPRESSIONS_OF_DECAF = 50


@dataclass(frozen=True)
class MovingScene:
    """One frame of a take. scene: geometry in head axes, with rest neck and eyes.  rigid: (4, 4) head axes -> world, metres."""

    scene: Scene
    rigid: Array


@dataclass(frozen=True)
class TouchingMotion:
    """A touch that a take passes through: where, and the solved hand."""

    target: TouchTarget
    hand: PlacedHand


@dataclass(frozen=True)
class Way:
    """Everything of a take that varies with time, drawn before any frame is solved. All arrays have one row per frame.

    lift: (T,) metres between hand and skin.  along: (T,) from 0, the first touch, to 1, the second.  expression: (T, E).
    head_pose: (T, 4, 3) neck, jaw, eyes.  orient: (T, 3) axis-angle and place: (T, 3) metres of the head in the world.
    """

    lift: Array
    along: Array
    expression: Array
    head_pose: Array
    orient: Array
    place: Array


def draw_take(rng: np.random.Generator, person: SyntheticPerson, frames: int) -> Iterator[MovingScene]:
    """A take of `frames` frames with one person. Raises NoSceneError when no attempt gives an acceptable one."""
    for attempt in range(1, ATTEMPTS + 1):
        region = str(rng.choice(list(REGIONS), p=np.array(list(REGIONS.values())) / sum(REGIONS.values())))
        way = draw_way(rng, frames)
        press = float(rng.uniform(0.25, 1.0))
        found = _draw_touches(rng, person, way, region, press)
        if found is None:
            continue
        plan, touches = found
        hands = _moved_hands(person, way, touches, press)
        scenes = None if hands is None else _yielding(person, way, touches[0].target, plan.grip, hands, attempt)
        if scenes is not None:
            rigids = _head_rigids(way, scenes)
            return (MovingScene(scene, rigid) for scene, rigid in zip(scenes, rigids, strict=True))
    raise NoSceneError(f"no take of {frames} frames in {ATTEMPTS} attempts")


def draw_way(rng: np.random.Generator, frames: int) -> Way:
    """The time course of a take: usually the hand comes and goes; sometimes it is there at the start, or stays."""
    u = np.linspace(0, 1, frames)
    comes, goes = rng.random() < 0.85, rng.random() < 0.75
    pace = min(1.0, frames / _FULL)  # people do not hurry because a take is short
    farthest = _FARTHEST * pace
    arrives, leaves = rng.uniform(0.22, 0.35), rng.uniform(0.68, 0.82)
    lift = np.zeros(frames)
    if comes:
        lift += farthest * (1 - _ease(u / arrives))
    if goes:
        lift += farthest * _ease((u - leaves) / (1 - leaves))
    presses = max(1.0, frames / 45)  # a press takes about a second and a half
    lift += float(rng.uniform(0.001, 0.004)) * (1 - np.cos(2 * np.pi * presses * (u - arrives))) / 2
    names = free_head().arrays.expression_names
    knots = np.stack([draw_expression(rng, names) * 0.7 for _ in range(3)])
    knots = knots[:1] + pace * (knots - knots[:1])
    knots[:, EXPRESSIONS_OF_DECAF:] = 0
    pose = np.zeros((frames, 4, 3))
    pose[:, 1] = np.array([1.0, 0, 0]) * np.clip(_curve(rng.uniform(0, _JAW, (4, 1)), u), 0, _JAW)
    tilt = pace * np.deg2rad(rng.normal(0, [4, 7, 3], (4, 3)))
    return Way(
        lift, _ease((u - arrives) / (leaves - arrives)), np.clip(_curve(knots, u), 0, 1), pose,
        _curve(tilt, u), _curve(pace * rng.normal(0, 0.012, (4, 3)), u),
    )  # fmt: skip


def _ease(u: Array) -> Array:
    """0 below 0, 1 above 1, with no jump of speed or acceleration between (smootherstep)."""
    u = np.clip(u, 0, 1)
    eased: Array = u**3 * (u * (6 * u - 15) + 10)
    return eased


def _curve(knots: Array, u: Array) -> Array:
    """A natural cubic spline through evenly spaced knots (K, ...) at u (T,) in [0, 1]: (T, ...)."""
    from scipy.interpolate import CubicSpline

    spline: Array = CubicSpline(np.linspace(0, 1, len(knots)), knots, bc_type="natural")(u)
    return spline


def _draw_touches(
    rng: np.random.Generator, person: SyntheticPerson, way: Way, region: str, press: float
) -> tuple[HandPlan, tuple[TouchingMotion, TouchingMotion]] | None:
    """Two touches of a region with one grip, a short way apart, on the face of the take's middle. None if an arm cannot do it."""
    middle = len(way.lift) // 2
    body = free_head()
    head = body.posed(person.head_betas, way.head_pose[middle][None], way.expression[middle]).vertices[0]
    surface = FitSurface(head, body.closed_faces)
    approach = Approach(surface, allowance(press), person.hand_betas)
    first = draw_target(rng, head, surface.vertex_normals, region)
    plan = draw_plan(rng, first)
    if arm_strain(plan.rotation) > MOST_STRAIN:
        return None
    hand = approach.place(plan, first)
    if hand is None or not arm_clear(hand, surface, head):
        return None
    start = TouchingMotion(first, hand)
    for _ in range(6):
        second = draw_target(rng, head, surface.vertex_normals, region)
        if not _SLIDE[0] < np.linalg.norm(second.point - first.point) < _SLIDE[1]:
            continue
        turned = replace(plan, rotation=_between(first.normal, second.normal) @ plan.rotation)
        moved = approach.place(turned, second) if arm_strain(turned.rotation) <= MOST_STRAIN else None
        if moved is not None and arm_clear(moved, surface, head):
            return plan, (start, TouchingMotion(second, moved))
    return plan, (start, start)


def _between(a: Array, b: Array) -> Array:
    """The smallest rotation (3, 3) from unit vector a to unit vector b."""
    from scipy.spatial.transform import Rotation

    axis, cosine = np.cross(a, b), float(np.clip(a @ b, -1, 1))
    length = np.linalg.norm(axis)
    turn = axis / length * np.arccos(cosine) if length > 1e-9 else np.zeros(3)
    matrix: Array = Rotation.from_rotvec(turn).as_matrix()
    return matrix


def _moved_hands(
    person: SyntheticPerson, way: Way, touches: tuple[TouchingMotion, TouchingMotion], press: float
) -> list[PlacedHand] | None:
    """The hand in every frame, settled on that frame's undeformed face. None if the way passes through the head."""
    body, hands, normals, needed = free_head(), [], [], []
    between = _Between(touches[0].hand, touches[1].hand)
    allow = allowance(press)
    for t, (along, lift) in enumerate(zip(way.along, way.lift, strict=True)):
        head = body.posed(person.head_betas, way.head_pose[t][None], way.expression[t]).vertices[0]
        approach = Approach(FitSurface(head, body.closed_faces), allow, person.hand_betas)
        normal = (1 - along) * touches[0].target.normal + along * touches[1].target.normal
        normal /= np.linalg.norm(normal)
        far = float(_ease(np.array(lift / _FARTHEST)))
        pose, rotation, place = between.at(float(along))
        hand = approach.posed(pose * (1 - (1 - _OPEN) * far), rotation, place)
        clearance = approach.clearance(hand, normal)
        if clearance is None:
            return None
        # from its own side rather than straight at the face, once there is room for that
        sideways = arm_direction(rotation) - (arm_direction(rotation) @ normal) * normal
        hands.append(hand.moved(0.8 * far * lift * sideways))
        normals.append(normal)
        needed.append(clearance)
    outward = _smooth_above(np.array(needed)) + way.lift
    return [hand.moved(d * normal) for hand, d, normal in zip(hands, outward, normals, strict=True)]


class _Between:
    """Hands between two solved ones: joints and the whole hand turn at constant speed, its place moves along a line."""

    def __init__(self, first: PlacedHand, second: PlacedHand) -> None:
        from scipy.spatial.transform import Rotation

        self.first, self.second = first, second
        self._start = Rotation.from_matrix(first.rotation)
        self._turn = (self._start.inv() * Rotation.from_matrix(second.rotation)).as_rotvec()
        self._joints = Rotation.from_rotvec(first.pose)
        self._bends = (self._joints.inv() * Rotation.from_rotvec(second.pose)).as_rotvec()

    def at(self, share: float) -> tuple[Array, Array, Array]:
        """Pose (15, 3), rotation (3, 3) and translation (3,) at a share in [0, 1] of the way."""
        from scipy.spatial.transform import Rotation

        pose = (self._joints * Rotation.from_rotvec(share * self._bends)).as_rotvec()
        rotation = (self._start * Rotation.from_rotvec(share * self._turn)).as_matrix()
        return pose, rotation, (1 - share) * self.first.translation + share * self.second.translation


def _smooth_above(needed: Array) -> Array:
    """A smoother curve (T,) that is nowhere below `needed` (T,): a mean of maxima over the neighbours that it looks at."""
    from scipy.ndimage import correlate1d, maximum_filter1d

    smooth: Array = correlate1d(maximum_filter1d(needed, 5, mode="nearest"), [0.1, 0.2, 0.4, 0.2, 0.1], mode="nearest")
    return smooth


def _yielding(
    person: SyntheticPerson, way: Way, target: TouchTarget, grip: str, hands: list[PlacedHand], attempt: int
) -> list[Scene] | None:
    """Scenes with the face's displacement, smoothed in time. None if a frame keeps too much overlap or no frame touches."""
    body = free_head()
    posed = [
        body.posed(person.head_betas, pose[None], expression)
        for pose, expression in zip(way.head_pose, way.expression, strict=True)
    ]
    moves = np.stack([yield_to(p.vertices[0], hand.vertices) for p, hand in zip(posed, hands, strict=True)])
    padded = np.concatenate([moves[:1], moves, moves[-1:]])
    moves = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    scenes = []
    for t, (p, hand) in enumerate(zip(posed, hands, strict=True)):
        touch = measure(p.vertices[0] + moves[t], hand.vertices)
        if touch.deepest > MAX_DEPTH:
            return None
        now = replace(person, expression=way.expression[t], head_pose=way.head_pose[t])
        scenes.append(
            Scene(
                "touch",
                False,
                target.region,
                grip,
                now,
                p.vertices[0],
                p.keypoints[0],
                p.root[0],
                moves[t],
                hand,
                touch,
                target,
                attempt,
            )
        )
    return scenes if any(scene.touch.hand_contact.any() for scene in scenes) else None


def _head_rigids(way: Way, scenes: list[Scene]) -> Array:
    """(T, 4, 4) head axes -> world as Decaf turns heads, about the mean of their vertices c: v = R (v0 - c) + c + transl."""
    from scipy.spatial.transform import Rotation

    turns = Rotation.from_rotvec(way.orient).as_matrix()
    rigids = np.tile(np.eye(4), (len(scenes), 1, 1))
    centres = np.stack([scene.head.mean(0) for scene in scenes])
    rigids[:, :3, :3] = turns
    rigids[:, :3, 3] = centres - np.einsum("tij,tj->ti", turns, centres) + way.place
    return rigids
