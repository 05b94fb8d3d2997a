"""What all top-down keypoint networks of the mmpose family share: boxes, crops, SimCC decoding, and our point orders.

COCO-WholeBody's 133 points are 17 body, 6 foot, 68 face (iBUG order), 21 left hand and 21 right hand points (wrist, then
thumb to little finger from the palm to the tip, which is MediaPipe's order too); Jin et al., ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from handface.model.prediction.view import Box
from handface.pipeline.contract.detections import Detections, Face, Hand, Side

if TYPE_CHECKING:
    from numpy.typing import NDArray

Layout = Literal["wholebody", "hand", "face68", "face106"]
POINTS: dict[Layout, int] = {"wholebody": 133, "hand": 21, "face68": 68, "face106": 106}
TASKS: dict[Layout, str] = {
    "wholebody": "wholebody_keypoints",
    "hand": "hand_keypoints",
    "face68": "face_keypoints",
    "face106": "face_keypoints",
}
WHOLEBODY_FACE, WHOLEBODY_LEFT, WHOLEBODY_RIGHT = slice(23, 91), slice(91, 112), slice(112, 133)
# iBUG 68 as points of LaPa/JD 106 (mmpose's face6 checkpoints): every second of 33 contour points, then the inner ones.
FACE_68_FROM_106 = (
    *range(0, 33, 2),  # jaw
    *(33, 34, 35, 36, 37, 42, 43, 44, 45, 46),  # upper edge of the brows
    *(51, 52, 53, 54, 58, 59, 60, 61, 62),  # bridge and base of the nose
    *(66, 67, 69, 70, 71, 73, 75, 76, 78, 79, 80, 82),  # eyes without the mid-lid points 68, 72, 77, 81
    *range(84, 104),  # outer and inner lip
)
MEAN = np.array([123.675, 116.28, 103.53], np.float32)
STD = np.array([58.395, 57.12, 57.375], np.float32)
PADDING = 1.25  # of a box, as in mmpose's GetBBoxCenterScale


class PoseError(RuntimeError):
    """A checkpoint cannot be used as asked; the message names the file, what was expected and what to do."""


class KeypointNetwork(Protocol):
    """A network that finds the points in boxes."""

    def points(self, image: NDArray[np.uint8], boxes: Sequence[Box]) -> list[NDArray[np.float32]]:
        """(H, W, 3) uint8 RGB -> one (K, 3) array of x, y in image pixels and confidence for each box."""


@dataclass(frozen=True)
class KeypointRegion:
    """One box to look into and where its answer goes: the `face`-th face or `hand`-th hand, or a person's face and hands."""

    box: Box
    face: int | None = None
    hand: int | None = None


def annotate(
    network: KeypointNetwork, layout: Layout, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Detections] | None
) -> list[Detections]:
    """The loop every top-down network shares. Raises ValueError without one Detections for each image."""
    if boxes is None or len(boxes) != len(images):
        raise ValueError("a top-down network needs the detections of an earlier detector, one for each image")
    results = []
    for image, found in zip(images, boxes, strict=True):
        chosen = regions(found, layout, image.shape[1], image.shape[0])
        points = network.points(image, [region.box for region in chosen]) if chosen else []
        results.append(merge(found, layout, chosen, points))
    return results


def regions(found: Detections, layout: Layout, width: int, height: int) -> list[KeypointRegion]:
    """Boxes for a layout from earlier detections: a person around face and hands, or each part by itself.

    A person's box spans the head and shoulders below the face (three faces wide, five high) and every hand within reach
    (four face sizes), cut at the image; whole-body networks are trained on whole persons.
    """
    if layout == "hand":
        return [KeypointRegion(scale_box(hand.box, 1.2), hand=i) for i, hand in enumerate(found.hands)]
    if layout != "wholebody":
        return [KeypointRegion(face.box, face=i) for i, face in enumerate(found.faces)]
    people = []
    for i, face in enumerate(found.faces):
        x0, y0, x1, y1 = face.box
        size, centre = face.size, (x0 + x1) / 2
        corners = [(centre - 1.5 * size, y0 - 0.5 * size), (centre + 1.5 * size, y0 + 4.5 * size)]
        for hand in found.hands:
            hx0, hy0, hx1, hy1 = hand.box
            if np.hypot((hx0 + hx1) / 2 - centre, (hy0 + hy1 - y0 - y1) / 2) < 4 * size:
                corners += [(hx0, hy0), (hx1, hy1)]
        low = np.maximum(np.min(corners, 0), 0)
        high = np.minimum(np.max(corners, 0), (width - 1, height - 1))
        people.append(KeypointRegion((float(low[0]), float(low[1]), float(high[0]), float(high[1])), face=i))
    return people


def scale_box(box: Box, factor: float) -> Box:
    """The box scaled about its centre."""
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    half = np.array([box[2] - box[0], box[3] - box[1]]) / 2 * factor
    return (*(centre - half).tolist(), *(centre + half).tolist())


def crop_affine(box: Box, width: int, height: int) -> NDArray[np.float64]:
    """(2, 3) image pixel -> network pixel: the padded box, widened to the network's aspect (mmpose TopdownAffine)."""
    x0, y0, x1, y1 = box
    box_width, box_height = max(x1 - x0, 1.0) * PADDING, max(y1 - y0, 1.0) * PADDING
    scale = width / max(box_width, box_height * width / height)
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    return np.column_stack([np.eye(2) * scale, np.array([width / 2, height / 2]) - scale * centre])


def network_input(
    image: NDArray[np.uint8], affine: NDArray[np.float64], width: int, height: int
) -> NDArray[np.float32]:
    """(H, W, 3) uint8 RGB -> (3, height, width) float32, warped and normalised with ImageNet's mean and deviation."""
    import cv2

    warped = cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_LINEAR)
    return np.ascontiguousarray(((warped.astype(np.float32) - MEAN) / STD).transpose(2, 0, 1))


def decode_simcc(
    simcc_x: NDArray[np.float32], simcc_y: NDArray[np.float32], split: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(N, K, Wx), (N, K, Wy) -> points (N, K, 2) in network pixels and scores (N, K); Li et al., SimCC, ECCV 2022.

    The score is the smaller of the two maxima, as in mmpose's get_simcc_maximum; points with a score <= 0 have none.
    """
    points = np.stack([simcc_x.argmax(-1), simcc_y.argmax(-1)], -1).astype(np.float32) / np.float32(split)
    scores = np.minimum(simcc_x.max(-1), simcc_y.max(-1))
    return points, scores


def to_image(points: NDArray[np.float32], affine: NDArray[np.float64]) -> NDArray[np.float32]:
    """(K, 2) network pixels -> image pixels."""
    return ((points - affine[:, 2]) @ np.linalg.inv(affine[:, :2]).T).astype(np.float32)


def merge(
    found: Detections, layout: Layout, chosen: Sequence[KeypointRegion], points: Sequence[NDArray[np.float32]]
) -> Detections:
    """Put (K, 3) points x, y, confidence of each region into new detections of this network.

    A single-part network keeps side, z and world of the hand whose box it was given; from a whole-body network hands come
    with their own side, and parts whose mean confidence is 0 are left out.
    """
    faces, hands = [], []
    for region, keypoints in zip(chosen, points, strict=True):
        if layout == "wholebody":
            assert region.face is not None
            faces.append(_face(found.faces[region.face], keypoints[WHOLEBODY_FACE]))
            hands += [_hand(keypoints[WHOLEBODY_LEFT], "left"), _hand(keypoints[WHOLEBODY_RIGHT], "right")]
        elif layout == "hand":
            assert region.hand is not None
            before = found.hands[region.hand]
            hands.append(
                replace(before, keypoints=keypoints, score=_mean(keypoints), z=None, world=None, found_by="hand")
            )
        else:
            assert region.face is not None
            chosen_68 = keypoints[list(FACE_68_FROM_106)] if layout == "face106" else keypoints
            faces.append(_face(found.faces[region.face], chosen_68))
    return Detections(tuple(faces), tuple(hand for hand in hands if hand.score > 0))


def _face(before: Face, keypoints: NDArray[np.float32]) -> Face:
    return replace(before, keypoints=keypoints, score=_mean(keypoints), mesh=None, found_by="top-down")


def _hand(keypoints: NDArray[np.float32], side: Side) -> Hand:
    return Hand(keypoints, side, _mean(keypoints), found_by="wholebody")


def _mean(keypoints: NDArray[np.float32]) -> float:
    return float(keypoints[:, 2].mean())
