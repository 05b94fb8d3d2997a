"""The camera and the light of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.render import DirectionalLight, Lighting, PerspectiveCamera
from handface.pipeline.synthesis.scene.attempt import FLIP
from handface.pipeline.synthesis.scene.domain import Domain
from handface.pipeline.synthesis.scene.scene import Scene

Array = NDArray[np.float64]
_ANY_VIEW = 0.25  # share of pictures whose camera does not care what it sees


@dataclass(frozen=True)
class SceneView:
    """Where the scene is seen from. rotation: (3, 3), translation: (3,): head axes -> camera axes.  camera: the pinhole."""

    rotation: Array
    translation: Array
    camera: PerspectiveCamera

    def to_camera(self, points: Array) -> Array:
        """Points (..., 3) of head axes in camera axes."""
        return points @ self.rotation.T + self.translation


def draw_view(rng: np.random.Generator, scene: Scene, size: int, domain: Domain = Domain()) -> SceneView:
    """A camera that sees face and hand; of a few, usually the one that shows most of the face. size: pixels."""
    tries = [_random_view(rng, scene, size, domain) for _ in range(1 if rng.random() < _ANY_VIEW else 5)]
    points, radius = scene.blockers()
    return max(tries, key=lambda view: _shown(view, scene.head_keypoints[17:], points, radius))


def _shown(view: SceneView, face: Array, points: Array, radius: Array) -> float:
    """Share of face points (K, 3) that no nearer blocker (N, 3) of its radius (N,) hides."""
    seen, block = view.to_camera(face), view.to_camera(points)
    a, b = seen[:, :2] / seen[:, 2:], block[:, :2] / block[:, 2:]
    gap = np.linalg.norm(a[:, None] - b[None], axis=-1) * block[None, :, 2]
    hidden = (gap < radius) & (block[None, :, 2] < seen[:, None, 2] + 0.005)
    return float(1 - hidden.any(1).mean())


def _random_view(rng: np.random.Generator, scene: Scene, size: int, domain: Domain) -> SceneView:
    """A camera before the face, leaning towards the touched side, far or near, level or not."""
    outward = scene.target.normal * (FLIP if scene.left else 1.0)
    if scene.second is not None:  # then between the two
        outward = (outward + scene.second.mirrored(scene.second.target.normal)) / 2
    lean = float(np.arctan2(outward[0], max(outward[2], 0.2)))
    yaw = np.clip(rng.normal(0.3 * lean, np.deg2rad(domain.yaw)), -np.deg2rad(55), np.deg2rad(55))
    lift = 0.25 * float(np.arcsin(np.clip(outward[1], -1, 1)))
    pitch = np.clip(rng.normal(np.deg2rad(2) + lift, np.deg2rad(8)), -np.deg2rad(28), np.deg2rad(24))
    roll = np.clip(rng.normal(0, np.deg2rad(6)), -0.3, 0.3)
    toward = np.array([np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)])
    right = np.cross([0.0, 1.0, 0.0], toward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, -np.cross(toward, right), -toward])
    c, s = np.cos(roll), np.sin(roll)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ rotation
    seen = np.concatenate([scene.head, scene.hand_vertices()]) @ rotation.T
    low, high = seen.min(0), seen.max(0)
    distance = float(rng.uniform(*domain.distance))
    shift = rng.normal(0, 0.04, 2) * (high - low)[:2]
    translation = np.array([*(-(low + high)[:2] / 2 + shift), distance - low[2]])
    moved = seen + translation
    extent = np.abs(moved[:, :2] / moved[:, 2:]).max()
    focal = size / 2 / (extent * rng.uniform(0.97, 1.4))
    return SceneView(rotation, translation, PerspectiveCamera.from_focal(float(focal), size, size))


def draw_light(rng: np.random.Generator, view: SceneView, domain: Domain = Domain()) -> Lighting:
    """A key light from the camera's half, a weaker one opposite, sky and ground; warm, neutral or cool, dim to bright.

    Plain: always the same two lamps from above, neutral.
    """
    if domain.plain:
        lamps = tuple(DirectionalLight((side, -0.5, -0.8), (1.0, 1.0, 1.0), 0.45) for side in (-0.6, 0.6))
        return Lighting(lamps, up=tuple(view.rotation[:, 1]), shadow_softness=2.0)
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
