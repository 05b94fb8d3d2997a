"""Does this hand touch this face? Four measurable pieces of evidence and one score, from 2D points and a skin map.

Overlap alone keeps every hand that passes between camera and face, and every telephone gesture. What tells them apart:
a hand in front is larger than a hand at the face would be (`scale_ratio`, from MediaPipe's metric hand and the known size
of a face), and a hand beside the face shows hair, wall or clothes between the two skins (`skin_touch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.landmarks import FACE_OVAL
from handface.pipeline.contract.detections import Face, Hand

if TYPE_CHECKING:
    from numpy.typing import NDArray

HAND_BONES = (
    *((0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (5, 9), (9, 10), (10, 11), (11, 12)),
    *((9, 13), (13, 14), (14, 15), (15, 16), (13, 17), (0, 17), (17, 18), (18, 19), (19, 20)),
)
PALM = (0, 1, 5, 9, 13, 17)
# Adult distances in metres between mesh points (outer eye corners; hairline to chin; cheek to cheek) and iBUG points.
_MESH_RULERS = ((33, 263, 0.089), (10, 152, 0.177), (234, 454, 0.153))
_IBUG_RULERS = ((36, 45, 0.089), (0, 16, 0.150))
FINGER_RADIUS = 0.009  # metres
BODY_SKIN, FACE_SKIN = 2, 3  # classes of the selfie multiclass segmenter


@dataclass(frozen=True)
class ContactConfig:
    """Weights of the evidence; lengths in face sizes. Set on synthetic and public pictures, see docs/results."""

    threshold: float = 0.5
    """Photos whose contact score is below this are turned away."""
    reach: float = 0.05
    """How far inside the face's outline a hand must reach when nothing else speaks for or against it."""
    skin_bonus: float = 0.16
    """What an unbroken border of hand skin and face skin is worth, at a plausible scale."""
    skin_border: tuple[float, float] = (0.1, 0.6)
    """Border lengths in face sizes that earn none and all of the bonus; a finger that passes by touches a little."""
    unknown_skin: float = 0.25
    """Share of the bonus given where no segmentation could be had."""
    in_front_ratio: float = 1.2
    """A hand that appears more than this times too large for the face's distance counts as in front of it."""
    in_front_penalty: float = 1.0
    """Taken off per unit of ratio beyond `in_front_ratio`."""
    in_front_most: float = 0.2
    """The penalty stops here: the ratio of a half-hidden hand can be far off, and a deep reach outweighs it."""
    plainly_in_front_ratio: float = 2.0
    """Beyond this no error explains the ratio, and the penalty grows again."""
    in_front_fade: float = 0.15
    """Over this much ratio beyond `in_front_ratio` the skin bonus fades out."""
    behind_ratio: float = 0.6
    """A hand smaller than this for the face's distance is behind it or somebody else's."""
    softness: float = 0.03
    """Width of the logistic that turns evidence into a score."""


@dataclass(frozen=True)
class ContactEvidence:
    """What the filter saw of one hand and one face.

    overlap: deepest reach of a hand bone inside the face outline in face sizes, negative = gap.  scale_ratio: apparent
    hand scale / face scale, 1 at equal depth, above 1 nearer to the camera.  skin_touch: length along which hand skin
    borders face skin, in face sizes; None without a segmentation.  coverage: share of the face outline under the hand.
    """

    overlap: float
    scale_ratio: float
    skin_touch: float | None
    coverage: float

    def score(self, config: ContactConfig) -> float:
        """Contact confidence in [0, 1]: a logistic of the summed evidence."""
        evidence = self.overlap - config.reach
        excess = max(0.0, self.scale_ratio - config.in_front_ratio)
        if self.scale_ratio < config.behind_ratio:
            evidence -= config.behind_ratio - self.scale_ratio
        else:
            none, all_ = config.skin_border
            share = config.unknown_skin if self.skin_touch is None else (self.skin_touch - none) / (all_ - none)
            evidence += config.skin_bonus * min(1.0, max(0.0, share)) * max(0.0, 1 - excess / config.in_front_fade)
        evidence -= min(config.in_front_penalty * excess, config.in_front_most)
        evidence -= config.in_front_penalty * max(0.0, self.scale_ratio - config.plainly_in_front_ratio)
        return float(1 / (1 + np.exp(np.clip(-evidence / config.softness, -50, 50))))


def contact_evidence(face: Face, hand: Hand, skin: NDArray[np.uint8] | None = None) -> ContactEvidence:
    """Evidence for one pair. skin: (H, W) class map of the whole image, or None."""
    import cv2

    outline = face_outline(face)
    points = bone_points(hand)
    contour = outline.astype(np.float32).reshape(-1, 1, 2)
    depths = [cv2.pointPolygonTest(contour, (float(x), float(y)), True) for x, y in points]
    coverage, touch = _areas(face, hand, outline, skin)
    return ContactEvidence(max(depths) / face.size, scale_ratio(face, hand), touch, coverage)


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
