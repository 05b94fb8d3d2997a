"""Who is in the picture and what face they make: shape, expression, gaze and the way the head is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.synthesis.person.bodies import free_hand, free_head

Array = NDArray[np.float64]
NEUTRAL_SHARE = 0.25
# Strengths of ARKit face units at full effect; both sides are named without Left/Right and get almost the same strength.
EXPRESSIONS: Mapping[str, Mapping[str, float]] = {
    "smile": {"mouthSmile": 0.7, "cheekSquint": 0.4, "eyeSquint": 0.3},
    "grin": {"mouthSmile": 0.6, "mouthStretch": 0.3, "jawOpen": 0.12, "cheekSquint": 0.4},
    "surprise": {"browInnerUp": 0.8, "browOuterUp": 0.7, "eyeWide": 0.7, "jawOpen": 0.4},
    "pucker": {"mouthPucker": 0.8},
    "frown": {"mouthFrown": 0.7, "browDown": 0.6},
    "talk": {"jawOpen": 0.3, "mouthFunnel": 0.3},
    "yawn": {"jawOpen": 0.75, "eyeSquint": 0.6, "browInnerUp": 0.4},
    "blink": {"eyeBlink": 0.95},
    "puff": {"cheekPuff": 0.7},
    "press": {"mouthPress": 0.7, "mouthShrugLower": 0.4},
    "sneer": {"noseSneer": 0.7, "mouthUpperUp": 0.4, "browDown": 0.4},
    "think": {"browDown": 0.5, "mouthLeft": 0.4, "eyeSquint": 0.3},
}


@dataclass(frozen=True)
class SyntheticPerson:
    """Parameters of head and hand. head_betas: (S,).  expression: (E,).  head_pose: (4, 3) neck, jaw, eyes.  hand_betas: (S,)."""

    head_betas: Array
    expression: Array
    head_pose: Array
    hand_betas: Array


def draw_person(rng: np.random.Generator, region: str) -> SyntheticPerson:
    """A random person about to be touched in `region`: an eye that is touched is closed."""
    head, hand = free_head().arrays, free_hand().arrays
    betas = np.clip(rng.normal(0, 0.85, head.num_betas), -2, 2)
    expression = draw_expression(rng, head.expression_names)
    if region == "eye":
        expression = np.maximum(expression, _units({"eyeBlink": 1.0}, head.expression_names, np.ones(2)))
    pose = np.zeros((4, 3))
    pose[0] = np.deg2rad(np.clip(rng.normal(0, [6, 6, 4]), -15, 15))
    gaze = np.deg2rad(np.clip(rng.normal(0, [5, 9, 0]), -18, 18))
    pose[2] = pose[3] = gaze
    return SyntheticPerson(betas, expression, pose, np.clip(rng.normal(0, 0.8, hand.num_betas), -2, 2))


def draw_expression(rng: np.random.Generator, names: tuple[str, ...]) -> Array:
    """One expression, sometimes a blend of two, at a random strength, (E,) in [0, 1]."""
    total = np.zeros(len(names))
    if rng.random() < NEUTRAL_SHARE:
        return total
    kinds = rng.choice(list(EXPRESSIONS), size=int(rng.choice([1, 2], p=[0.7, 0.3])), replace=False)
    for kind in kinds:
        sides = np.clip(rng.uniform(0.3, 1.1) * rng.normal(1, 0.08, 2), 0, 1.2)
        total += _units(EXPRESSIONS[str(kind)], names, sides)
    return np.clip(total, 0, 1)


def _units(strengths: Mapping[str, float], names: tuple[str, ...], sides: Array) -> Array:
    """Unit strengths as a vector over `names`. sides: (2,) factors of the left and the right side."""
    vector = np.zeros(len(names))
    for unit, value in strengths.items():
        for name, factor in ((unit + "Left", sides[0]), (unit + "Right", sides[1]), (unit, sides.mean())):
            if name in names:
                vector[names.index(name)] = value * factor
    return vector
