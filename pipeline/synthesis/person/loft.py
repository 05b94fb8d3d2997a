"""What is attached to the cut ends of the bodies: a forearm at the wrist, neck and shoulders under the head.

Both are lofts: rings of vertices that start on the body's own open ring, so that no shape or pose leaves a gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLOTHES = 4  # the ring of a bust from which it is covered


@dataclass(frozen=True)
class Loft:
    """Rings joined by triangles. vertices: (R * n, 3).  faces: (F, 3).  uv: (R * (n + 1), 2), v along the rings.  face_uv: (F, 3).

    ring_of_face: (F,) the ring at which each face begins, 0 at the body.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int64]
    uv: NDArray[np.float32]
    face_uv: NDArray[np.int64]
    ring_of_face: NDArray[np.int64]


def loft(rings: NDArray[np.floating]) -> Loft:
    """Join rings (R, n, 3), each running along its body's winding; faces point outward away from the body's end."""
    count, n = rings.shape[:2]
    k, i = np.meshgrid(np.arange(count - 1), np.arange(n), indexing="ij")
    j = (i + 1) % n
    a, b, c, d = k * n + i, k * n + j, (k + 1) * n + i, (k + 1) * n + j
    faces = np.concatenate([np.stack([b, a, c], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    ta, tb, tc, td = k * (n + 1) + i, k * (n + 1) + i + 1, (k + 1) * (n + 1) + i, (k + 1) * (n + 1) + i + 1
    face_uv = np.concatenate([np.stack([tb, ta, tc], -1).reshape(-1, 3), np.stack([tb, tc, td], -1).reshape(-1, 3)])
    v, u = np.meshgrid(np.linspace(1, 0, count), np.linspace(0, 1, n + 1), indexing="ij")
    uv = np.stack([u, v], -1).reshape(-1, 2).astype(np.float32)
    return Loft(rings.reshape(-1, 3).astype(np.float32), faces, uv, face_uv, np.tile(k.ravel(), 2))


def forearm(
    ring: NDArray[np.floating],
    behind: NDArray[np.floating],
    elbow: NDArray[np.floating],
    length: float,
    thickness: float,
) -> Loft:
    """A forearm from the wrist's ring (n, 3): it leaves the hand along `behind` and bends within 5 cm to `elbow`, unit (3,).

    length: metres.  thickness: girth towards the elbow relative to the wrist's.
    """
    centre = ring.mean(0)
    offset = ring - centre
    along = np.array([0.0, 0.008, 0.018, 0.03, 0.045, 0.065, 0.10, 0.15, 0.20, 0.26]) / 0.26 * length
    share = np.clip(along / 0.05, 0, 1)
    smooth = share * share * (3 - 2 * share)
    direction = (1 - smooth)[:, None] * behind + smooth[:, None] * elbow
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    steps = np.diff(along)[:, None] * (direction[1:] + direction[:-1]) / 2
    centres = centre + np.concatenate([np.zeros((1, 3)), np.cumsum(steps, 0)])
    girth = 1 + (thickness - 1) * np.interp(along / length, [0, 0.1, 0.3, 0.6, 0.8, 1], [0, 0.05, 0.4, 0.9, 1, 0.97])
    flat = offset - (offset @ behind)[:, None] * behind  # the cut is not square to the arm; straighten it out
    rings = []
    for k, middle in enumerate(centres):
        straight = min(1.0, along[k] / 0.03)
        shape = (1 - straight) * offset + straight * flat
        rings.append(middle + girth[k] * shape @ _turn(behind, direction[k]).T)
    return loft(np.stack(rings))


def _turn(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """The smallest rotation (3, 3) that takes unit a to unit b (not its opposite)."""
    v = np.cross(a, b)
    cross = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + a @ b)


def bust(ring: NDArray[np.floating], width: float, depth: float, neck: float) -> Loft:
    """Neck and shoulders from the neck's ring (n, 3) in head axes (y up, z to the front); clothes begin at ring CLOTHES.

    width, depth: of the shoulders, metres.  neck: length of the neck that is added, metres.
    """
    centre = ring.mean(0)
    angle = np.arctan2(ring[:, 2] - centre[2], ring[:, 0] - centre[0])
    circle = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], 1)
    # a rounded rectangle is closer to a trunk than an ellipse
    trunk = np.sign(circle) * np.abs(circle) ** 0.75
    drops = np.array([0.0, 0.3, 0.65, 1.0, 1.15, 1.35, 1.7, 2.3, 3.2, 5.0, 8.0]) * neck
    spread = np.array([0.0, 0.0, 0.02, 0.10, 0.22, 0.42, 0.66, 0.86, 0.97, 1.0, 0.98])
    offset = ring - centre
    level = offset * [1.0, 0.0, 1.0]
    rings = []
    for drop, s in zip(drops, spread, strict=True):
        settle = min(1.0, drop / (0.65 * neck))  # the cut slants; lower rings lie level
        around = (1 - settle) * offset + settle * level
        target = trunk * [width / 2, 0.0, depth / 2] + [0.0, 0.0, -0.02]
        slope = 0.035 * s * (1 - np.abs(circle[:, 0])) * (drop > neck)  # the neckline rises at back and front
        flat = (1 - s) * around + s * target
        flat[:, 1] += -drop + slope
        rings.append(centre + flat)
    return loft(np.stack(rings))
