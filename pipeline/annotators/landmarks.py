"""Tables of landmarks, and how hands and faces of one picture lie to each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from handface.model.prediction.view import Box
from handface.pipeline.contract.detections import Face, Hand

if TYPE_CHECKING:
    from numpy.typing import NDArray

# iBUG 68 landmarks as vertices of the 478-point mesh: jaw, brows, nose, eyes, mouth.
FACE_68_FROM_478 = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87),
)
# The face's outline on the same mesh, in order round it.
FACE_OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152),
    *(148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)

HAND_BONES = (
    *((0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (5, 9), (9, 10), (10, 11), (11, 12)),
    *((9, 13), (13, 14), (14, 15), (15, 16), (13, 17), (0, 17), (17, 18), (18, 19), (19, 20)),
)


def hand_agreement(a: Hand, b: Hand) -> float:
    """1 - mean distance of the 21 points / hand size: 1 for the same points, 0 when a hand size apart."""
    distance = np.linalg.norm(a.keypoints[:, :2] - b.keypoints[:, :2], axis=1).mean()
    size = max(longer_side(a.box), longer_side(b.box), 1.0)
    return float(np.clip(1 - distance / size, 0, 1))


def is_near(hand: Hand, face: Face) -> bool:
    """Whether any hand point lies within a quarter of a face size of the face box."""
    return _gap(hand, face) < 0.25


def _gap(hand: Hand, face: Face) -> float:
    """Distance of the nearest hand point to the face box in face sizes, negative inside."""
    x0, y0, x1, y1 = face.box
    x, y = hand.keypoints[:, 0], hand.keypoints[:, 1]
    return float(np.maximum(np.maximum(x0 - x, x - x1), np.maximum(y0 - y, y - y1)).min() / face.size)


def longer_side(box: Box) -> float:
    """In pixels."""
    return max(box[2] - box[0], box[3] - box[1])


def points_box(points: NDArray[np.float32]) -> Box:
    """x0, y0, x1, y1 around (N, 2 or more) points."""
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def face_from_mesh(mesh: NDArray[np.float32], score: float, found_by: str) -> Face:
    """A face with its 68 landmarks taken from the (478, 3) mesh."""
    points = mesh[list(FACE_68_FROM_478), :2]
    keypoints = np.column_stack([points, np.full(len(points), score)]).astype(np.float32)
    return Face(points_box(mesh), score, keypoints, mesh, found_by)


def reach(face: Face, hand: Hand) -> float:
    """How deep a bone of the hand reaches inside the face's outline, in face sizes; negative is a gap."""
    import cv2

    contour = face_outline(face).astype(np.float32).reshape(-1, 1, 2)
    return max(cv2.pointPolygonTest(contour, (float(x), float(y)), True) for x, y in bone_points(hand)) / face.size


def face_outline(face: Face) -> NDArray[np.float32]:
    """(N, 2) polygon of the face: the mesh's oval, or the hull of the 68 points where there is no mesh."""
    import cv2

    if face.mesh is not None:
        return face.mesh[list(FACE_OVAL), :2]
    return np.asarray(cv2.convexHull(face.keypoints[:, :2].astype(np.float32))[:, 0], np.float32)


def bone_points(hand: Hand) -> NDArray[np.float32]:
    """(84, 2) points along the 21 bones: a finger can cross the face between two keypoints."""
    start, end = (hand.keypoints[list(side), :2] for side in zip(*HAND_BONES, strict=True))
    steps = np.array([0, 1 / 3, 2 / 3, 1], np.float32)[:, None, None]
    return (start + steps * (end - start)).reshape(-1, 2)
