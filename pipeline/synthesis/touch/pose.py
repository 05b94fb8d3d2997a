"""What a hand wants to do: which part of it touches which part of the face, how the fingers are held and from where the arm comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.synthesis.person.bodies import free_hand

Array = NDArray[np.float64]
COMFORT = np.array([-0.45, -0.85, 0.28]) / np.linalg.norm(
    [-0.45, -0.85, 0.28]
)  # a right elbow: below, outside, in front
WRIST_RANGE = np.deg2rad(45)  # how far the wrist bends
MOST_STRAIN = np.deg2rad(20)  # see arm_strain
FINGERS = (
    "index",
    "middle",
    "pinky",
    "ring",
    "thumb",
)  # joint order of the hand: finger f bends at joints 3 f + 1 .. 3 f + 3


@dataclass(frozen=True)
class Grip:
    """A way to hold the hand.

    flexion: finger -> bend of its three joints, degrees.  contact: fingers (or "palm", "knuckles") that are to touch.
    tilt: range of degrees by which the hand is turned about its width; positive lifts the wrist off the face.
    fold: degrees by which the thumb is swept across the palm.  weight: how often it is drawn.  regions: where on the face it is used.
    """

    flexion: Mapping[str, tuple[float, float, float]]
    contact: tuple[str, ...]
    tilt: tuple[float, float]
    weight: float
    regions: tuple[str, ...]
    fold: float = 0.0


_EVERYWHERE = ("cheek", "chin", "under_chin", "lips", "nose", "eye", "forehead", "temple", "ear", "jaw")
_CURLED = (62.0, 88.0, 45.0)


def _fingers(
    straight: tuple[str, ...],
    bend: tuple[float, float, float],
    thumb: tuple[float, float, float],
    others: tuple[float, float, float] = _CURLED,
) -> dict[str, tuple[float, float, float]]:
    return {f: thumb if f == "thumb" else bend if f in straight else others for f in FINGERS}


_FOUR = ("index", "middle", "ring", "pinky")
GRIPS: Mapping[str, Grip] = {
    "fingertips": Grip(
        _fingers(_FOUR, (16.0, 22.0, 12.0), (8.0, 8.0, 10.0)), _FOUR, (-8, 22), 3.0,
        ("cheek", "chin", "lips", "forehead", "temple", "jaw", "ear", "nose"),
    ),
    "point": Grip(_fingers(("index",), (14.0, 18.0, 10.0), (-10.0, 5.0, 10.0)), ("index",), (-5, 35), 2.5, _EVERYWHERE, fold=58.0),
    "two": Grip(
        _fingers(("index", "middle"), (14.0, 20.0, 10.0), (-8.0, 5.0, 10.0)), ("index", "middle"), (-5, 30), 2.0, _EVERYWHERE, fold=62.0
    ),
    "palm": Grip(
        _fingers(_FOUR, (8.0, 12.0, 8.0), (0.0, 5.0, 5.0)), ("palm", *_FOUR), (-5, 10), 2.0, ("cheek", "jaw", "temple", "forehead", "ear", "lips")
    ),
    "cup": Grip(_fingers(_FOUR, (24.0, 30.0, 18.0), (0.0, 10.0, 10.0)), ("palm", *_FOUR), (0, 20), 1.5, ("chin", "jaw", "cheek", "under_chin")),
    "fist": Grip(
        _fingers((), (0, 0, 0), (-2.0, 5.0, 10.0), (72.0, 88.0, 52.0)), ("knuckles",), (-15, 15), 1.5, ("cheek", "chin", "under_chin", "jaw", "lips", "temple"), fold=66.0
    ),
    "thumb": Grip(
        _fingers((), (0, 0, 0), (-5.0, 5.0, 5.0), (60.0, 80.0, 45.0)), ("thumb",), (-20, 20), 1.0, ("chin", "under_chin", "cheek", "lips", "nose", "jaw")
    ),
}  # fmt: skip


@dataclass(frozen=True)
class HandPlan:
    """One attempt: the grip with its random detail, and how the hand approaches.

    pose: (15, 3) axis-angle.  rotation: (3, 3) hand rest frame -> head axes.  anchor: (A,) hand vertices to bring to the target.
    fingers: those whose bend may be changed until they touch (True) or stay clear (False).
    """

    grip: str
    pose: Array
    rotation: Array
    anchor: NDArray[np.int64]
    fingers: Mapping[str, bool]


@cache
def hand_parts() -> dict[str, NDArray[np.int64]]:
    """Vertices of the finger pads, the palm, and the knuckles (backs of the first finger bones), by name."""
    from handface.model.render import vertex_normals

    hand = free_hand()
    weights = hand.arrays.weights
    normal = vertex_normals(hand.arrays.template, hand.faces)
    parts = {}
    for f, finger in enumerate(FINGERS):
        tip = weights[:, 3 * f + 3] > 0.7
        axis = _axes()[3 * f + 2]
        bone = hand.template_keypoints[_tip(finger)] - hand.arrays.joint_template[3 * f + 3]
        palmar = np.cross(axis, bone)
        palmar /= np.linalg.norm(palmar)
        parts[finger] = np.flatnonzero(tip & (normal @ palmar > 0.55))
    down = -normal[:, 1]
    parts["palm"] = np.flatnonzero((weights[:, 0] > 0.8) & (down > 0.6) & (hand.arrays.template[:, 0] < -0.03))
    first = weights[:, [1, 4, 10, 7]].max(1) > 0.6
    parts["knuckles"] = np.flatnonzero(first & (down < -0.5))
    return parts


def _tip(finger: str) -> int:
    return {"thumb": 4, "index": 8, "middle": 12, "ring": 16, "pinky": 20}[finger]


def finger_vertices(finger: str) -> NDArray[np.int64]:
    """Vertices that a finger's bend moves."""
    f = FINGERS.index(finger)
    return np.flatnonzero(free_hand().arrays.weights[:, 3 * f + 1 : 3 * f + 4].sum(1) > 0.5)


def bend(finger: str, degrees: Array) -> Array:
    """Axis-angle (3, 3) of a finger's joints bent by (3,) degrees."""
    f = FINGERS.index(finger)
    return _axes()[3 * f : 3 * f + 3] * np.deg2rad(degrees)[:, None]


def _axes() -> Array:
    """(15, 3) the axis about which each joint bends."""
    axes = free_hand().arrays.flexion_axes
    assert axes is not None
    return axes.astype(np.float64)


@dataclass(frozen=True)
class TouchTarget:
    """A place on the face. point, normal: (3,) metres and unit outward, head axes.  region: its name."""

    point: Array
    normal: Array
    region: str


def fold_thumb(rotation: Array, degrees: float) -> Array:
    """The thumb's first joint (3,) swept across the palm, about the palm's normal (rest y), on top of its bend."""
    from scipy.spatial.transform import Rotation

    sweep = Rotation.from_rotvec([0.0, -np.deg2rad(degrees), 0.0])
    folded: Array = (sweep * Rotation.from_rotvec(rotation)).as_rotvec()
    return folded


def draw_plan(rng: np.random.Generator, target: TouchTarget) -> HandPlan:
    """A random plan for a right hand at a target."""
    region = target.region
    names = [name for name, grip in GRIPS.items() if region in grip.regions]
    weights = np.array([GRIPS[name].weight for name in names])
    name = str(rng.choice(names, p=weights / weights.sum()))
    grip = GRIPS[name]
    contact = _some_fingers(rng, grip.contact)
    pose = np.zeros((15, 3))
    loose = rng.normal(0, 4)
    for f, finger in enumerate(FINGERS):
        degrees = np.array(grip.flexion[finger]) + loose + rng.normal(0, [4, 5, 3])
        if finger in contact or finger == "thumb" or name in ("fist", "thumb"):
            degrees[1:] = np.maximum(degrees[1:], -4)
        pose[3 * f : 3 * f + 3] = bend(finger, degrees)
    pose[12] = fold_thumb(pose[12], grip.fold + rng.normal(0, 4))
    pose += rng.normal(0, np.deg2rad(2.0), pose.shape) * np.array([1, 0.3, 0.3] * 5)[:, None]
    spread = np.deg2rad(rng.normal(0, 3)) * np.array(
        [1.5, 0.4, -1.6, -0.6]
    )  # fanning about the palm's normal (rest -y)
    for f, angle in enumerate(spread):
        pose[3 * f, 1] += angle
    parts = hand_parts()
    if contact[0] in ("palm", "knuckles"):
        anchor = parts[contact[0]]
    else:
        anchor = np.concatenate([parts[finger] for finger in contact])
    rotation = _orientation(rng, name, region, pose, anchor, target)
    free = {f: f in contact for f in FINGERS if not (name in ("fist", "thumb") and f != "thumb")}
    return HandPlan(name, pose, rotation, anchor, free)


def _some_fingers(rng: np.random.Generator, contact: tuple[str, ...]) -> tuple[str, ...]:
    """Of four fingertips sometimes only the first two or three are asked to touch."""
    if contact == _FOUR:
        return contact[: int(rng.choice([2, 3, 4], p=[0.2, 0.3, 0.5]))]
    return contact


def _orientation(
    rng: np.random.Generator, plan_name: str, region: str, pose: Array, anchor: NDArray, target: TouchTarget
) -> Array:
    """Rotation of the hand that lays the touching part flat onto the face, fingers up, the elbow where an arm can have it."""
    from handface.model.render import vertex_normals

    hand = free_hand()
    vertices = hand.posed(np.zeros(hand.arrays.num_betas), pose[None]).vertices[0]
    touching = _unit(vertex_normals(vertices, hand.faces)[anchor].mean(0).astype(np.float64))
    # what lies along the face: the fingers, or for a fist, whose knuckles look forward, the back of the hand
    leading = np.array([0.0, 1.0, 0.0]) if plan_name == "fist" else np.array([-1.0, 0.0, 0.0])
    own = _frame(touching, leading)
    lowest, highest = GRIPS[plan_name].tilt
    rotation = np.eye(3)
    for _ in range(30):
        wanted = _frame(-target.normal, _finger_direction(rng, region, target.point))
        tilt, roll = np.deg2rad(rng.uniform(lowest, highest)), np.deg2rad(rng.normal(0, 10))
        rotation = wanted @ _about(2, -tilt) @ _about(1, roll) @ own.T
        if arm_strain(rotation) <= MOST_STRAIN:
            break
    return rotation


def _frame(first: Array, second: Array) -> Array:
    """Right-handed columns: `first`, the part of `second` across it, and their cross product, (3, 3)."""
    first = _unit(first)
    second = _unit(second - (second @ first) * first)
    return np.stack([first, second, np.cross(first, second)], 1)


def _about(axis: int, angle: float) -> Array:
    from scipy.spatial.transform import Rotation

    return Rotation.from_rotvec(np.eye(3)[axis] * angle).as_matrix()


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def arm_direction(rotation: Array) -> Array:
    """Where the elbow lies as seen from the wrist, unit, head axes: straight behind the hand, bent at the wrist towards comfort."""
    behind = rotation @ np.array([1.0, 0.0, 0.0])
    angle = np.arccos(np.clip(behind @ COMFORT, -1, 1))
    turn = min(angle, WRIST_RANGE * min(1.0, angle / np.deg2rad(70)))
    side = COMFORT - (COMFORT @ behind) * behind
    length = np.linalg.norm(side)
    return behind if length < 1e-6 else np.cos(turn) * behind + np.sin(turn) * side / length


def arm_strain(rotation: Array) -> float:
    """Radians by which the bent wrist still leaves the elbow away from where it is comfortable; 0 within 35 degrees."""
    return max(0.0, float(np.arccos(np.clip(arm_direction(rotation) @ COMFORT, -1, 1))) - np.deg2rad(35))


def _finger_direction(rng: np.random.Generator, region: str, point: Array) -> Array:
    """Where the fingers point before they are laid onto the skin: up, and away from the side the arm is on."""
    across = np.clip(point[0] / 0.06, -1, 1)  # -1 at the hand's own side
    lean = rng.normal(0.25 + 0.30 * across, 0.35)
    back = rng.normal(-0.2, 0.2)
    up = 1.0 if region not in ("under_chin", "chin") else 0.6
    return _unit(np.array([lean, up, back]))
