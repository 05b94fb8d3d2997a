"""Whether hand and face touch: what the network says, and how far the hand lies over the face in the picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handface.model.prediction.prediction import Detection, Floats

_BROWS, _CHIN, _NOSE = slice(17, 27), 8, 27
_FOREHEAD = 0.35  # of the height from chin to nose bridge that the forehead reaches above the brows
_SURE = 1e-4  # probabilities count as no nearer to 0 or 1
_LIKELIEST = 10  # head vertices whose mean guess of contact counts
_MOST, _LEAST = 0.2, -0.3  # overlaps beyond these say nothing more
# Logistic regression on synthetic scenes that no network was trained on (`benchmarks.model.fit_presence`)
_WEIGHTS = np.array([0.475, 0.466, 1.575, -0.078])
# where there is no network, a hand over the face touches it
_POINTS_ALONE = np.array([0.0, 0.0, 12.0, 0.0])


def touch_probability(presence: float, head_contact: Floats, detection: Detection) -> float:
    """Probability in [0, 1] that hand and face touch.

    Args:
        presence: the network's probability; NaN counts as 0.5.
        head_contact: (V,) the network's probability of contact of each head vertex; all 0 where there is no network.
        detection: the person's keypoints.
    """
    weights = _WEIGHTS if head_contact.any() else _POINTS_ALONE
    return float(1 / (1 + np.exp(-(presence_features(presence, head_contact, detection) @ weights))))


def presence_features(presence: float, head_contact: Floats, detection: Detection) -> NDArray[np.float64]:
    """(4,): the logits of presence and of the likeliest contact on the head, how far the hand lies over the face, 1."""
    likeliest = np.partition(head_contact, -_LIKELIEST)[-_LIKELIEST:] if head_contact.any() else np.array([0.5])
    overlap = np.clip(face_overlap(detection), _LEAST, _MOST)
    return np.array([_logit(np.array([presence])).mean(), _logit(likeliest).mean(), overlap, 1.0])


def _logit(probability: Floats) -> NDArray[np.float64]:
    inside = np.clip(np.nan_to_num(probability.astype(np.float64), nan=0.5), _SURE, 1 - _SURE)
    return np.asarray(np.log(inside / (1 - inside)))


def face_overlap(detection: Detection) -> float:
    """How far the innermost hand point lies inside the face's outline, in sizes of the face; negative outside."""
    from scipy.spatial import ConvexHull, QhullError

    face, hand = detection.face, detection.hand[detection.hand[:, 2] > 0, :2]
    points = _with_forehead(face) if (face[:, 2] > 0).all() else face[face[:, 2] > 0, :2]
    try:
        hull = ConvexHull(points.astype(np.float64))
    except (QhullError, ValueError):
        return _LEAST  # points on a line have no inside
    outside = (hand @ hull.equations[:, :2].T + hull.equations[:, 2]).max(1)
    return float(-outside.min() / max(detection.face_size, 1e-6))


def _with_forehead(face: Floats) -> NDArray[np.float32]:
    """The 68 points, and the brows once more where the hair starts."""
    up = _FOREHEAD * (face[_NOSE, :2] - face[_CHIN, :2])
    return np.concatenate([face[:, :2], face[_BROWS, :2] + up])
