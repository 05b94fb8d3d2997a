"""How pictures and labels move together: resize, mirror, and a similarity in the picture plane.

A turn by t in the picture is a turn of the scene by t about the camera's z axis: with a weak-perspective camera u = s X + c,
A u + b = (k s) (Rz X) + c', so that 3D labels are turned by Rz while zoom and shift change the camera only. (With a perspective
camera this is exact for turns about the principal point.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.names import IBUG_MIRROR
from handface.pipeline.contract.images.affine import move_points
from handface.pipeline.contract.sample import FACE_KEYPOINTS, HAND_KEYPOINTS

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
_FACE_MIRROR = np.array(IBUG_MIRROR)
_POINTS_MIRROR = np.concatenate([_FACE_MIRROR, FACE_KEYPOINTS + np.arange(HAND_KEYPOINTS)])


def resize(before: int, after: int) -> Array:
    """(3, 3): pixels of a square picture -> pixels of the same picture resized; centres at integers."""
    return scale_pixels(after / before)


def scale_pixels(scale: float) -> Array:
    """(3, 3): pixels of a picture -> pixels of one in which each covers 1 / scale of them, the first corners on each other."""
    shift = (scale - 1) / 2
    return np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])


def flip(size: int) -> Array:
    """(3, 3): x -> size - 1 - x."""
    return np.array([[-1.0, 0, size - 1], [0, 1, 0], [0, 0, 1]])


def similarity(size: int, angle: float, scale: float, shift: tuple[float, float]) -> Array:
    """(3, 3): turn by `angle` (radians, x towards y) and zoom about the picture's centre, then shift by pixels."""
    cos, sin, centre = scale * np.cos(angle), scale * np.sin(angle), (size - 1) / 2
    turn = np.array([[cos, -sin], [sin, cos]])
    offset = centre - turn @ [centre, centre] + shift
    return np.array([[cos, -sin, offset[0]], [sin, cos, offset[1]], [0, 0, 1]])


def move_keypoints(points: Floats, matrix: Array) -> Floats:
    """(N, 3) x, y, confidence through a (3, 3) matrix; 0, 0, 0 where the confidence is 0."""
    return np.where(points[:, 2:] > 0, move_points(points, matrix), np.float32(0))


def mirror_face(points: Floats) -> Floats:
    """The 68 points (68, ...) in the order that is right for a mirrored face; coordinates stay."""
    return points[_FACE_MIRROR]


def mirror_points(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Values of the 89 points (89, ...) in the order of the mirrored face; the hand keeps its order."""
    return values[_POINTS_MIRROR]


def turn_about_camera(orient: Floats, transl: Floats, pivot: Floats, angle: Floats) -> tuple[Floats, Floats]:
    """global_orient and transl, (B, 3) each, of bodies that are turned by `angle` (B,) about the camera's z axis.

    v = R (v0 - p) + p + t with pivot p (B, 3) becomes Rz v with R' = Rz R and t' = Rz (p + t) - p.
    """
    from scipy.spatial.transform import Rotation

    about = Rotation.from_rotvec(np.stack([np.zeros_like(angle), np.zeros_like(angle), angle], 1).astype(np.float64))
    turned = (about * Rotation.from_rotvec(orient.astype(np.float64))).as_rotvec()
    placed = about.apply(pivot.astype(np.float64) + transl) - pivot
    return turned.astype(np.float32), placed.astype(np.float32)
