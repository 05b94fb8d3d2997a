"""Whether hand and face touch: what the network says, and whether a fingertip lies over the face in the picture at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handface.model.prediction.prediction import Detection, Floats

_BROWS, _CHIN, _NOSE = slice(17, 27), 8, 27
_FOREHEAD = 0.35  # of the height from chin to nose bridge that the forehead reaches above the brows
# Score = by_network * logit + by_overlap * overlap + constant. More than 1 for the network: better on scenes, worse on photos.
_BY_NETWORK, _BY_OVERLAP, _CONSTANT = 1.0, 12.0, -0.4
_MOST, _LEAST = 0.2, -0.3  # overlaps beyond these say nothing more


def touch_probability(presence: float, detection: Detection) -> float:
    """Probability in [0, 1] that hand and face touch. presence: the network's."""
    known = float(np.clip(np.nan_to_num(presence, nan=0.5), 1e-3, 1 - 1e-3))
    overlap = float(np.clip(face_overlap(detection), _LEAST, _MOST))
    score = _BY_NETWORK * np.log(known / (1 - known)) + _BY_OVERLAP * overlap + _CONSTANT
    return float(1 / (1 + np.exp(-score)))


def face_overlap(detection: Detection) -> float:
    """How far the innermost hand point lies inside the face's outline, in sizes of the face; negative outside."""
    from scipy.spatial import ConvexHull, QhullError

    face, hand = detection.face, detection.hand[detection.hand[:, 2] > 0, :2]
    points = _with_forehead(face) if (face[:, 2] > 0).all() else face[face[:, 2] > 0, :2]
    size = float(np.ptp(face[face[:, 2] > 0, :2], axis=0).max())
    try:
        hull = ConvexHull(points.astype(np.float64))
    except (QhullError, ValueError):
        return _LEAST  # points on a line have no inside
    outside = (hand @ hull.equations[:, :2].T + hull.equations[:, 2]).max(1)
    return float(-outside.min() / max(size, 1e-6))


def _with_forehead(face: Floats) -> NDArray[np.float32]:
    """The 68 points, and the brows once more where the hair starts."""
    up = _FOREHEAD * (face[_NOSE, :2] - face[_CHIN, :2])
    return np.concatenate([face[:, :2], face[_BROWS, :2] + up])
