"""Whether a fit can be made at all, and how far to trust one that was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from handface.model.bodies.names import FACE_KEYPOINTS, JAW_KEYPOINTS
from handface.model.prediction.prediction import Detection, Fit, Floats, Person

_FACE_SCALE, _HAND_SCALE = 0.03, 0.05  # shares of the face: residuals at which quality has halved
# Typical residuals of a network's guess, in face sizes: up to the first nothing is held against it, from the second on all.
# dice-m's lie below 0.09 on photos, those of networks that were hardly trained above 0.75.
_NEAR, _LOST = 0.3, 1.0
_APART = 3.0  # face sizes between hand and face from which on they are hardly one person's


def refuse(detection: Detection, min_points: int) -> str:
    """Why these points cannot be fitted, or "". The jaw line alone places no face, so its points do not count."""
    for name, points, first in (("face", detection.face, JAW_KEYPOINTS), ("hand", detection.hand, 0)):
        seen = points[points[:, 2] > 0]
        if np.isnan(points[:, 2]).any() or not np.isfinite(seen).all():
            return f"{name} points are not finite numbers"
        if (count := int((points[first:, 2] > 0).sum())) < min_points:
            beside = " beside the jaw line" if first else ""
            return f"{count} {name} points{beside} with a confidence above 0, at least {min_points} are needed"
        if np.ptp(seen[:, :2], axis=0).max() < 4:
            return f"all {name} points lie within 4 pixels"
    return ""


def judge(person: Person, residuals: Floats) -> Fit:
    """The fit's verdict. residuals: (89,) as in `Fit`. The start is kept where the fit lies on the picture no better."""
    assert person.detection is not None
    before = guess_residuals(person)
    if not np.isfinite(residuals[np.isfinite(before)]).all():
        return Fit(False, 0.0, "the fit did not converge; this is what it started from", before)
    old, new = _typical(before), _typical(residuals)
    if new > old:
        return Fit(
            False, _quality(before), f"the fit is worse than its start ({new:.1%} > {old:.1%} of the face)", before
        )
    reason = ""
    if (apart := _apart(person.detection)) > _APART:
        reason = f"hand and face are {apart:.1f} face sizes apart: are they of two people?"
        return Fit(True, min(_quality(residuals), 0.2), reason, residuals)
    quality = _quality(residuals)
    if quality < 0.5:
        reason = f"keypoints miss the detected ones by {new:.1%} of the face"
    return Fit(True, quality, reason, residuals)


def doubt_guess(person: Person, guess: Person) -> Person:
    """A fitted person with less quality where the network's guess lay far off the face and hand.

    The fit moves the bodies onto the points, but contact and deformation stay the network's.

    Args:
        person: The guess after its fit.
        guess: What the network said.
    """
    fit = person.fit
    if fit is None or not fit.fitted or guess.detection is None:
        return person
    off = _typical(guess_residuals(guess))
    share = min(1.0, max(0.0, (_LOST - off) / (_LOST - _NEAR)))
    if not share < 1:
        return person
    reason = fit.reason or f"the network's own guess was {off:.1f} face sizes off, so its contact means little"
    return replace(person, fit=replace(fit, quality=fit.quality * share, reason=reason))


def guess_residuals(person: Person) -> Floats:
    """Residuals of a person as they are, (89,) in shares of the face's longer side."""
    found = person.detection
    assert found is not None
    off, size = [], max(found.face_size, 1e-6)
    for part, points in ((person.head, found.face), (person.hand, found.hand)):
        distance = np.linalg.norm(person.camera.project(part.keypoints_3d) - points[:, :2], axis=1) / size
        off.append(np.where(points[:, 2] > 0, distance, np.nan))
    return np.concatenate(off).astype(np.float32)


def _typical(residuals: Floats) -> float:
    """Mean over the face without its jaw line, and over the hand, of what was seen."""
    parts = [part[np.isfinite(part)] for part in (residuals[JAW_KEYPOINTS:FACE_KEYPOINTS], residuals[FACE_KEYPOINTS:])]
    return float(np.mean([part.mean() for part in parts if len(part)] or [np.inf]))


def _quality(residuals: Floats) -> float:
    """1 for residuals of 0; the worse part counts."""
    values = []
    for part, scale in (
        (residuals[JAW_KEYPOINTS:FACE_KEYPOINTS], _FACE_SCALE),
        (residuals[FACE_KEYPOINTS:], _HAND_SCALE),
    ):
        seen = part[np.isfinite(part)]
        if len(seen):
            values.append(1 / (1 + (float(seen.mean()) / scale) ** 2) * min(1.0, len(seen) / 15))
    return min(values, default=0.0)


def _apart(detection: Detection) -> float:
    """Distance between the middles of hand and face in face sizes."""
    face, hand = (points[points[:, 2] > 0, :2] for points in (detection.face, detection.hand))
    return float(np.linalg.norm(face.mean(0) - hand.mean(0)) / detection.face_size)
