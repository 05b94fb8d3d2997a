"""The camera and the light of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.render import DirectionalLight, Lighting, PerspectiveCamera

Array = NDArray[np.float64]


@dataclass(frozen=True)
class View:
    """Where the scene is seen from. rotation: (3, 3), translation: (3,): head axes -> camera axes.  camera: the pinhole."""

    rotation: Array
    translation: Array
    camera: PerspectiveCamera

    def to_camera(self, points: Array) -> Array:
        """Points (..., 3) of head axes in camera axes."""
        return points @ self.rotation.T + self.translation


def draw_view(rng: np.random.Generator, face: Array, hand: Array, contact: Array | None, size: int) -> View:
    """A camera that sees face and hand. face: (N, 3), hand: (M, 3) points to keep in the picture.  contact: (3,) outward direction
    of the touched place, which the camera leans towards.  size: pixels."""
    lean = 0.0 if contact is None else float(np.arctan2(contact[0], max(contact[2], 0.2)))
    yaw = np.clip(rng.normal(0.35 * lean, np.deg2rad(17)), -np.deg2rad(50), np.deg2rad(50))
    lift = 0.0 if contact is None else 0.25 * float(np.arcsin(np.clip(contact[1], -1, 1)))
    pitch = np.clip(rng.normal(np.deg2rad(2) + lift, np.deg2rad(8)), -np.deg2rad(28), np.deg2rad(24))
    roll = np.clip(rng.normal(0, np.deg2rad(6)), -0.3, 0.3)
    toward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.cross([0.0, 1.0, 0.0], toward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, -np.cross(toward, right), -toward])
    c, s = np.cos(roll), np.sin(roll)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ rotation
    points = np.concatenate([face, hand])
    seen = points @ rotation.T
    low, high = seen.min(0), seen.max(0)
    distance = float(rng.uniform(0.45, 1.2))
    middle = (low + high) / 2
    shift = rng.normal(0, 0.04, 2) * (high - low)[:2]
    translation = np.array([*(-middle[:2] + shift), distance - low[2]])
    moved = seen + translation
    extent = np.abs(moved[:, :2] / moved[:, 2:]).max()
    focal = size / 2 / (extent * rng.uniform(1.0, 1.45))
    return View(rotation, translation, PerspectiveCamera.from_focal(float(focal), size, size))


def draw_light(rng: np.random.Generator, view: View) -> Lighting:
    """A key light from the camera's half, a weaker one opposite, sky and ground; warm, neutral or cool, dim to bright."""
    angle = rng.uniform(0, 2 * np.pi)
    key = np.array([np.cos(angle) * 0.8, -rng.uniform(0.1, 0.9), -rng.uniform(0.45, 1.0)])
    warmth = rng.normal(0, 0.06)
    tint = np.array([1 + warmth, 1.0, 1 - 1.4 * warmth])
    strength = rng.uniform(0.55, 1.1)
    ambient = rng.uniform(0.5, 1.2)
    return Lighting(
        lights=(
            DirectionalLight(tuple(key), tuple(tint), float(strength)),
            DirectionalLight(
                (float(-key[0]), -0.2, -0.4), tuple(tint[::-1] * [0.9, 0.95, 1.0]), float(rng.uniform(0.1, 0.45))
            ),
        ),
        sky=tuple(np.array([0.42, 0.45, 0.50]) * ambient * tint),
        ground=tuple(np.array([0.30, 0.25, 0.22]) * ambient * tint),
        up=tuple(view.rotation[:, 1]),
        shadow_softness=float(rng.uniform(1.0, 2.2)),
    )
