"""How a hand would lie over a picture, drawn from its points, and the skin under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.landmarks import HAND_BONES
from handface.pipeline.annotators.selfie_segmenter import BODY_SKIN
from handface.pipeline.contract.detections import Face, Hand

if TYPE_CHECKING:
    from numpy.typing import NDArray

PALM = (0, 1, 5, 9, 13, 17)
# Adult distances in metres between mesh points (outer eye corners; hairline to chin; cheek to cheek) and iBUG points.
_MESH_RULERS = ((33, 263, 0.089), (10, 152, 0.177), (234, 454, 0.153))
_IBUG_RULERS = ((36, 45, 0.089), (0, 16, 0.150))
FINGER_RADIUS = 0.009  # metres


def face_scale(face: Face) -> float:
    """Pixels per metre of an adult face: the median over known distances between landmarks."""
    points, rulers = (face.keypoints[:, :2], _IBUG_RULERS) if face.mesh is None else (face.mesh, _MESH_RULERS)
    return float(np.median([np.linalg.norm(points[a] - points[b]) / length for a, b, length in rulers]))


def hand_mask(hand: Hand, scale: float, shape: tuple[int, int], origin: NDArray[np.float64]) -> NDArray[np.uint8]:
    """(h, w) uint8 mask of a hand drawn as capsules and a palm; `scale` is pixels per metre, `origin` its corner."""
    import cv2

    mask = np.zeros(shape, np.uint8)
    points = np.round(hand.keypoints[:, :2] - origin).astype(np.int32)
    thickness = max(1, round(2 * FINGER_RADIUS * scale))
    for a, b in HAND_BONES:
        cv2.line(mask, points[a].tolist(), points[b].tolist(), 1, thickness)
    cv2.fillConvexPoly(mask, cv2.convexHull(points[list(PALM)]), 1)
    return mask


def hand_skin(face: Face, hand: Hand, skin: NDArray[np.uint8]) -> float:
    """Share of the drawn hand, where the picture shows it, that is body skin: a cheek taken for a hand has little."""
    low = np.floor(hand.keypoints[:, :2].min(0)).astype(np.float64)
    width, height = np.ceil(hand.keypoints[:, :2].max(0) - low).astype(int) + 1
    drawn = hand_mask(hand, face_scale(face), (int(height), int(width)), low)
    x, y = int(low[0]), int(low[1])
    seen = skin[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    drawn = drawn[max(0, -y) :, max(0, -x) :][: seen.shape[0], : seen.shape[1]].astype(bool)
    return float((seen[drawn] == BODY_SKIN).mean()) if drawn.any() else 0.0
