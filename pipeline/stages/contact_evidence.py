"""Does this hand touch this face? Measurable pieces of evidence and one score, from 2D points and a skin map.

Overlap alone keeps every hand that passes between camera and face, and every telephone gesture. A small logistic rule weighs
how far the hand reaches into the face's outline, how long hand skin borders face skin without a gap, how much of the face the
hand covers, and how much too large it appears. `benchmarks.pipeline.contact_rule` trains it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.landmarks import face_outline, reach
from handface.pipeline.annotators.selfie_segmenter import BODY_SKIN, FACE_SKIN
from handface.pipeline.annotators.silhouette import face_scale, hand_mask, hand_skin
from handface.pipeline.contract.config import Share, Signed
from handface.pipeline.contract.detections import Face, Hand

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FAR = 0.25  # face sizes between hand and face


@dataclass(frozen=True)
class ContactConfig:
    """The rule's weights, from `benchmarks.pipeline.contact_rule`, and its limits; lengths in face sizes. See docs/results/detection.md."""

    threshold: Share = 0.4
    """Photos whose contact score is below this are turned away."""
    bias: Signed = -2.1
    """Log odds of a hand that only reaches the outline and borders no skin."""
    reach_weight: Signed = 6.0
    """Log odds for each face size of reach inside the outline."""
    skin_weight: Signed = 2.7
    """Log odds for each face size of unbroken border between hand skin and face skin."""
    cover_weight: Signed = -8.9
    """Log odds for each share of the face that is covered beyond `free_cover`: hands in front cover much."""
    front_weight: Signed = -7.4
    """Log odds for each unit by which the hand appears more than `free_ratio` times too large for the face's distance."""
    free_ratio: float = 1.2
    """Up to here the size of a hand says nothing: faces and hands differ, and so do the networks' guesses."""
    most_reach: float = 0.3
    """Reach counts up to this, and gaps likewise."""
    most_skin: float = 1.0
    """The border counts up to this."""
    free_cover: Share = 0.15
    """A touching hand covers this share of the face without a doubt."""
    unknown_skin: float = 0.3
    """Border that is assumed where no segmentation could be had."""
    scale: tuple[float, float] = (0.5, 2.0)
    """A hand that appears smaller or larger than this for the face's distance is behind it, or close to the camera."""
    most_face_in_hand: Share = 0.7
    """A face with more of its 68 points inside the hull of the hand is a palm taken for a face."""
    least_hand_skin: Share = 0.6
    """A hand with a smaller share of body skin under it is a cheek or a cloth taken for a hand."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"the contact threshold is {self.threshold}; scores lie between 0 and 1")


@dataclass(frozen=True)
class ContactEvidence:
    """What the filter saw of one hand and one face.

    overlap: deepest reach of a hand bone inside the face outline in face sizes, negative = gap.  scale_ratio: apparent
    hand scale / face scale, 1 at equal depth, above 1 nearer to the camera.  skin_touch: length along which hand skin
    borders face skin, in face sizes; None without a segmentation.  coverage: share of the face outline under the hand.
    hand_skin: share of the drawn hand that is skin of a body, None likewise.  face_in_hand: share of the 68 face points inside
    the hand's hull.
    """

    overlap: float
    scale_ratio: float
    skin_touch: float | None
    coverage: float
    hand_skin: float | None = None
    face_in_hand: float = 0.0

    def score(self, config: ContactConfig) -> float:
        """Contact confidence in [0, 1]: 0 beyond the limits, else a logistic of the weighted evidence."""
        if (
            self.is_palm(config)
            or self.is_no_hand(config)
            or not config.scale[0] <= self.scale_ratio <= config.scale[1]
        ):
            return 0.0
        touch = config.unknown_skin if self.skin_touch is None else self.skin_touch
        odds = config.bias + config.reach_weight * min(max(self.overlap, -config.most_reach), config.most_reach)
        odds += config.skin_weight * min(touch, config.most_skin)
        odds += config.cover_weight * max(0.0, self.coverage - config.free_cover)
        odds += config.front_weight * max(0.0, self.scale_ratio - config.free_ratio)
        return float(1 / (1 + np.exp(-np.clip(odds, -50, 50))))

    def is_palm(self, config: ContactConfig) -> bool:
        """Whether the face is none: all of it lies in the hand."""
        return self.face_in_hand > config.most_face_in_hand

    def is_no_hand(self, config: ContactConfig) -> bool:
        """Whether the hand is none: there is no skin of a body under it."""
        return self.hand_skin is not None and self.hand_skin < config.least_hand_skin


def contact_evidence(face: Face, hand: Hand, skin: NDArray[np.uint8] | None = None) -> ContactEvidence:
    """Evidence for one pair. skin: (H, W) class map of the whole image, or None."""
    depth, ratio = reach(face, hand), scale_ratio(face, hand)
    if depth < -_FAR:  # nothing else could change the answer
        return ContactEvidence(depth, ratio, None, 0.0)
    coverage, touch = _areas(face, hand, face_outline(face), skin)
    return ContactEvidence(
        depth,
        ratio,
        touch,
        coverage,
        None if skin is None else hand_skin(face, hand, skin),
        face_in_hand(face, hand),
    )


def face_in_hand(face: Face, hand: Hand) -> float:
    """Share of the 68 face points that lie inside the hull of the hand's 21 points: a palm taken for a face has them all."""
    import cv2

    hull = cv2.convexHull(hand.keypoints[:, :2].astype(np.float32))
    inside = [cv2.pointPolygonTest(hull, (float(x), float(y)), False) >= 0 for x, y in face.keypoints[:, :2]]
    return float(np.mean(inside))


def scale_ratio(face: Face, hand: Hand) -> float:
    """Pixels per metre of the hand over pixels per metre of the face = face distance / hand distance.

    Both scales are ratios of 3D lengths (weak perspective), so that turning and foreshortening cancel; the hand's is the
    geometric mean of the in-plane and the full 3D one. Returns 1 where the detector gives no metric hand.
    """
    if hand.world is None:
        return 1.0
    flat = hand.keypoints[:, :2] - hand.keypoints[:, :2].mean(0)
    world = hand.world - hand.world.mean(0)
    scales = [np.linalg.norm(flat) / np.linalg.norm(world[:, :2])]
    if hand.z is not None:
        scales.append(np.linalg.norm(np.column_stack([flat, hand.z - hand.z.mean()])) / np.linalg.norm(world))
    return float(np.exp(np.mean(np.log(scales))) / face_scale(face))


def _areas(
    face: Face, hand: Hand, outline: NDArray[np.float32], skin: NDArray[np.uint8] | None
) -> tuple[float, float | None]:
    """Coverage of the face by the hand, and the length along which hand skin borders face skin, in face sizes."""
    import cv2

    margin = 0.25 * face.size
    low = np.floor(outline.min(0) - margin).astype(np.float64)
    width, height = np.ceil(outline.max(0) + margin - low).astype(int)
    shape = (int(height), int(width))
    drawn = hand_mask(hand, face_scale(face), shape, low)
    oval = np.zeros(shape, np.uint8)
    cv2.fillPoly(oval, [np.round(outline - low).astype(np.int32)], 1)
    coverage = float((drawn & oval).sum() / max(1, oval.sum()))
    if skin is None:
        return coverage, None
    classes = np.zeros(shape, np.uint8)
    x, y = int(low[0]), int(low[1])
    source = skin[max(0, y) : y + height, max(0, x) : x + width]
    classes[max(0, -y) :, max(0, -x) :][: source.shape[0], : source.shape[1]] = source
    reach = max(1, round(0.02 * face.size))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    # The drawn hand is thinner than the real one, so let it grow over the body skin it lies on, not beyond.
    on_skin = drawn & np.isin(classes, (BODY_SKIN, FACE_SKIN)).astype(np.uint8)
    grown = cv2.dilate(drawn, kernel, iterations=2) & (classes == BODY_SKIN).astype(np.uint8)
    rim = cv2.dilate(on_skin | grown, kernel) & (classes == FACE_SKIN).astype(np.uint8) & (1 - drawn)
    return coverage, float(rim.sum() / reach / face.size)
