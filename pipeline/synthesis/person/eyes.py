"""Eyeballs: an azimuthal texture around the gaze axis with iris, pupil and veins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from handface.model.render import Texture
from handface.pipeline.synthesis.person.bodies import free_head

IRIS_ANGLE, PUPIL_ANGLE = 27.5, 10.5  # degrees from the gaze axis
IRISES = np.array([[0.05, 0.025, 0.012], [0.11, 0.055, 0.025], [0.09, 0.16, 0.24], [0.09, 0.13, 0.06]])


@dataclass(frozen=True)
class EyeBall:
    """One eyeball of the head's mesh. faces: (F, 3) rows of the head's vertices.  uv: (V, 2), of use at the ball's own vertices."""

    faces: NDArray[np.int64]
    uv: NDArray[np.float32]


@cache
def eyeballs() -> tuple[EyeBall, EyeBall]:
    """The left and the right eyeball, looking straight ahead (+z)."""
    head = free_head()
    template = head.arrays.template.astype(np.float64)
    faces = head.faces[head.eye_faces]
    balls = []
    for joint in (3, 4):
        centre = head.arrays.joint_template[joint].astype(np.float64)
        mine = faces[np.sign(template[faces[:, 0], 0]) == np.sign(centre[0])]
        direction = template - template[np.unique(mine)].mean(0)
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), 1e-9)
        angle = np.arccos(np.clip(direction[:, 2], -1, 1)) / (np.pi / 2)
        around = direction[:, :2] / np.maximum(np.linalg.norm(direction[:, :2], axis=1, keepdims=True), 1e-9)
        balls.append(EyeBall(mine, (0.5 + 0.25 * angle[:, None] * around).astype(np.float32)))
    return balls[0], balls[1]


@cache
def _polar(size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Degrees from the gaze axis and azimuth of texels, (size, size) each; the texture's rim is 180 degrees."""
    y, x = np.mgrid[:size, :size]
    dx, dy = (x + 0.5) / size * 2 - 1, (y + 0.5) / size * 2 - 1
    return (np.hypot(dx, dy) * 180).astype(np.float32), np.arctan2(dy, dx).astype(np.float32)


def paint_eye(rng: np.random.Generator, size: int = 192) -> Texture:
    """A random eye's texture, (size, size, 3) linear light."""
    angle, azimuth = _polar(size)
    white = np.array([0.60, 0.56, 0.53]) * rng.uniform(0.85, 1.05)
    image = white * (1 - 0.25 * np.clip((angle - 35) / 40, 0, 1))[..., None]
    iris = IRISES[rng.choice(len(IRISES), p=[0.4, 0.3, 0.17, 0.13])] * rng.uniform(0.7, 1.3)
    fibres = np.interp((azimuth + np.pi) / (2 * np.pi) * 90, np.arange(91), np.append(rng.uniform(0.6, 1.3, 90), 1.0))
    shade = (0.7 + 0.6 * np.clip((angle - 10) / 16, 0, 1)) * (1 - 0.75 * np.clip((angle - 23) / 4, 0, 1)) * fibres
    inside = np.clip((IRIS_ANGLE - angle) / 2, 0, 1)[..., None]
    image = image * (1 - inside) + iris * shade[..., None] * inside
    pupil = np.clip((PUPIL_ANGLE - angle) / 1.2, 0, 1)[..., None]
    return Texture((image * (1 - pupil) + 0.004 * pupil).astype(np.float32))
