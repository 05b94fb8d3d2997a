"""Faces and hands made of numbers, with known sizes, for tests of what comes after detection."""

from __future__ import annotations

import numpy as np

from handface.pipeline.contract.detections import Face, Hand, Side

# A flat right hand seen from its back: wrist at the origin, fingers up (-y), metres.
FLAT_HAND = np.array(
    [(0, 0), (-0.03, -0.02), (-0.05, -0.045), (-0.06, -0.07), (-0.07, -0.09)]
    + [
        (x, y)
        for x, top in ((-0.025, 0.175), (0, 0.185), (0.02, 0.175), (0.04, 0.15))
        for y in np.linspace(-0.09, -top, 4)
    ]
)


def face_at(x: float, y: float, scale: float) -> Face:
    """A frontal face without mesh: an adult's 68 points, centred at (x, y), `scale` pixels per metre."""
    jaw_angle = np.linspace(np.pi, 0, 17)
    jaw = np.column_stack([0.075 * np.cos(jaw_angle), 0.09 * np.sin(jaw_angle)])
    brows = np.column_stack([np.linspace(-0.055, 0.055, 10), np.full(10, -0.05)])
    nose = np.column_stack([np.zeros(9), np.linspace(-0.03, 0.02, 9)])
    eyes = np.column_stack([np.r_[np.linspace(-0.0445, -0.02, 6), np.linspace(0.0445, 0.02, 6)], np.full(12, -0.03)])
    eyes[[6, 9]] = eyes[[9, 6]]  # iBUG 42 is the inner, 45 the outer corner
    mouth = np.column_stack([np.linspace(-0.025, 0.025, 20), np.full(20, 0.045)])
    points = np.concatenate([jaw, brows, nose, eyes, mouth]) * scale + (x, y)
    low, high = points.min(0), points.max(0)
    keypoints = np.column_stack([points, np.full(68, 0.9)]).astype(np.float32)
    return Face((*low.tolist(), *high.tolist()), 0.9, keypoints)


def hand_at(x: float, y: float, scale: float, side: Side = "right", turn: float = 0.0) -> Hand:
    """A flat hand with its middle fingertip at (x, y), turned by `turn` radians about it."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (FLAT_HAND - FLAT_HAND[12]) @ rotation.T * scale + (x, y)
    world = np.column_stack([(FLAT_HAND - FLAT_HAND.mean(0)) @ rotation.T, np.zeros(21)])
    return Hand(
        keypoints=np.column_stack([points, np.full(21, 0.9)]).astype(np.float32),
        side=side,
        score=0.9,
        z=np.zeros(21, np.float32),
        world=world.astype(np.float32),
    )
