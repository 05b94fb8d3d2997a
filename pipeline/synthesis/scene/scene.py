"""The entry of synthesis: a scene id in, a picture of a hand at a face and everything that is known about it out.

    draw person and target -> pose head -> plan hand -> bring it to the face -> the face yields -> view and light -> picture

All of it is drawn from one generator seeded with (seed, scene id): scenes are independent of each other and of who makes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from handface.model.fitting.flesh import Touch
from handface.pipeline.contract.config import Share
from handface.pipeline.synthesis.person.bodies import free_hand, free_head
from handface.pipeline.synthesis.person.identity import SyntheticPerson, draw_person
from handface.pipeline.synthesis.scene.attempt import FLIP, SecondHand, Side, draw_attempt, draw_second
from handface.pipeline.synthesis.touch.deform import measure, yield_to
from handface.pipeline.synthesis.touch.pose import TouchTarget, arm_direction
from handface.pipeline.synthesis.touch.solve import PlacedHand
from handface.pipeline.synthesis.touch.target import REGIONS

Array = NDArray[np.float64]
Kind = Literal["touch", "near", "front"]
ATTEMPTS, PAIRED_ATTEMPTS = 24, 96  # with one hand, with two: most of the latter end before anything costly
MIN_CONTACTS = 4  # hand vertices of a touching scene
MAX_DEPTH, MAX_MEDIAN_DEPTH = 0.003, 0.001  # metres that may be left of the overlap


@dataclass(frozen=True)
class SceneConfig:
    """What scenes are drawn."""

    near_share: Share = 0.1
    """Share of scenes whose hand stops 1 to 5 cm short of the face."""
    front_share: Share = 0.1
    """Share of scenes whose hand passes between camera and face, 8 to 20 cm before it."""
    left_share: Share = 0.5
    """Share of left hands; with two hands, of those that the 3D labels are for."""
    two_hands_share: Share = 0.08
    """Share of touching scenes in which a second hand, of the other side, touches the face as well."""
    regions: tuple[str, ...] = field(default_factory=lambda: tuple(REGIONS))
    """Places that are touched."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.regions if name not in REGIONS]
        if unknown or not self.regions:
            raise ValueError(f"regions {unknown or '()'}: choose some of {', '.join(REGIONS)}")
        if not 0 <= self.two_hands_share <= 1:
            raise ValueError(f"two_hands_share is {self.two_hands_share}; it must lie between 0 and 1")
        if min(self.near_share, self.front_share) < 0 or self.near_share + self.front_share > 1:
            raise ValueError(
                f"near_share is {self.near_share} and front_share {self.front_share}: at least 0 each, and together at most 1, are expected"
            )


@dataclass(frozen=True)
class Scene:
    """Geometry of one scene in head axes (y up, face to +z, metres), before any camera.

    head: (V, 3) undeformed, displacement: (V, 3) of the skin.  hand: the right model's hand, for `left` in the mirror x -> -x.
    touch: of that hand.  second: the other hand, if it touches too; the displacement is under both.
    """

    kind: Kind
    left: bool
    region: str
    grip: str
    person: SyntheticPerson
    head: Array
    head_keypoints: Array
    head_root: Array
    displacement: Array
    hand: PlacedHand
    touch: Touch
    target: TouchTarget
    attempts: int
    second: SecondHand | None = None

    def mirrored(self, points: Array) -> Array:
        """Hand points (..., 3) of the right-handed solution as they are in the scene."""
        return points * FLIP if self.left else points

    def hand_vertices(self) -> Array:
        """Vertices of all hands in the scene, (H V, 3), head axes."""
        first = self.mirrored(self.hand.vertices)
        if self.second is None:
            return first
        return np.concatenate([first, self.second.mirrored(self.second.hand.vertices)])

    def blockers(self) -> tuple[Array, Array]:
        """What may hide the face: points (N, 3) of hands and forearms in head axes, and their radii (N,), metres."""
        points, radius = _blockers(self.hand)
        points = self.mirrored(points)
        if self.second is None:
            return points, radius
        others, same = _blockers(self.second.hand)
        return np.concatenate([points, self.second.mirrored(others)]), np.concatenate([radius, same])


class NoSceneError(RuntimeError):
    """No attempt at a scene ended with an acceptable touch."""


def draw_scene(rng: np.random.Generator, config: SceneConfig = SceneConfig()) -> Scene:
    """Draw one scene. Raises NoSceneError if all attempts fail, which the caller counts."""
    kind: Kind = str(rng.choice(["touch", "near", "front"], p=_kind_shares(config)))  # type: ignore[assignment]
    left = bool(rng.random() < config.left_share)
    weights = np.array([REGIONS[name] for name in config.regions])
    region = str(rng.choice(config.regions, p=weights / weights.sum()))
    person = draw_person(rng, region)
    body = free_head()
    posed = body.posed(person.head_betas, person.head_pose[None], person.expression)
    head = posed.vertices[0]
    side = Side(head, left)
    # its own generator: scenes with one hand are the same whatever the share
    other = rng.spawn(1)[0]
    other_side = Side(head, not left) if kind == "touch" and other.random() < config.two_hands_share else None
    most = ATTEMPTS if other_side is None else PAIRED_ATTEMPTS
    for attempt in range(1, most + 1):
        first = draw_attempt(rng, side, region, person, touch=kind == "touch", paired=other_side is not None)
        if first is None:
            continue
        hand, target, partner = first.hand, first.target, None
        if kind != "touch":
            gap = rng.uniform(0.01, 0.05) if kind == "near" else rng.uniform(0.08, 0.20)
            hand = hand.moved(gap * (target.normal if kind == "near" else _towards_camera(rng, target)))
        world = [hand.vertices * side.flip]
        if other_side is not None:
            partner = draw_second(other, other_side, first, side, config.regions, person)
            if partner is None:
                continue
            world.append(partner.hand.vertices * other_side.flip)
        displacement = yield_to(head, np.concatenate(world)) if kind == "touch" else np.zeros_like(head)
        touches = [
            measure(head + displacement, vertices, mirrored_hand=left != bool(k)) for k, vertices in enumerate(world)
        ]
        if not all(_acceptable(kind, touch) for touch in touches):
            continue
        second = None
        if partner is not None:
            where = partner.target
            second = SecondHand(not left, where.region, partner.grip, partner.hand, touches[1], where)
        return Scene(
            kind, left, region, first.grip, person, head, posed.keypoints[0], posed.root[0],
            displacement, hand, touches[0], target, attempt, second,
        )  # fmt: skip
    raise NoSceneError(f"no {kind} of the {region} in {most} attempts")


def _blockers(hand: PlacedHand) -> tuple[Array, Array]:
    """Points (N, 3) of a hand and its forearm in its own axes, and their radii (N,), metres."""
    skin = hand.vertices[::5]
    wrist = hand.vertices[free_hand().arrays.rings["wrist"]].mean(0)
    arm = wrist + np.linspace(0.01, 0.24, 12)[:, None] * arm_direction(hand.rotation)
    return np.concatenate([skin, arm]), np.concatenate([np.full(len(skin), 0.006), np.full(len(arm), 0.032)])


def _kind_shares(config: SceneConfig) -> list[float]:
    return [1 - config.near_share - config.front_share, config.near_share, config.front_share]


def _towards_camera(rng: np.random.Generator, target: TouchTarget) -> Array:
    direction = np.array([0.0, 0.0, 1.0]) + rng.normal(0, 0.15, 3) + 0.3 * target.normal
    return direction / np.linalg.norm(direction)


def _acceptable(kind: Kind, touch: Touch) -> bool:
    if kind != "touch":
        return not touch.hand_contact.any()
    enough = int(touch.hand_contact.sum()) >= MIN_CONTACTS
    return enough and touch.deepest < MAX_DEPTH and touch.median_depth < MAX_MEDIAN_DEPTH
