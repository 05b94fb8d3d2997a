"""The other hand at a face where one was found: fists and backs of hands that the palm network sees in no view.

where the first hand's mirror image would lie, and where body skin shows beside it -> the landmark network
-> the surest crops follow what they show -> once more, upright and in a mirror: a hand if both agree and body skin lies under it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.landmarks import hand_agreement, is_near
from handface.pipeline.annotators.networks.mediapipe import FoundHand, HandLandmarks
from handface.pipeline.annotators.networks.regions import NetworkPicture, Region, hand_region
from handface.pipeline.annotators.search.config import DetectorConfig
from handface.pipeline.annotators.search.hands import make_hand, merge_views
from handface.pipeline.annotators.selfie_segmenter import BODY_SKIN
from handface.pipeline.annotators.silhouette import face_scale, hand_mask, hand_skin
from handface.pipeline.contract.detections import Face, Hand

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOBS = 2  # patches of bare skin looked at, the largest
_LEAST_BLOB = 0.08  # of the face's size, squared
_GRID = 96  # pixels of a face's size on which patches are looked for
_LEAN = 0.9  # radians by which a hand beside a face leans towards it
_STIRS = (0.02, 0.3)  # least scores of the looks before the last
_LOOKED_AT = 2  # crops that are looked at again, the surest
_LEAST_SKIN = 0.6  # of the drawn hand
_OTHER_HAND = 0.5  # agreement with the first hand from which on it is the same one


@dataclass(frozen=True)
class OneHand:
    """A face at which one hand was found. skin: (H, W) class map of the picture."""

    picture: NetworkPicture
    face: Face
    hand: Hand
    skin: NDArray[np.uint8]


class SecondHandSearch:
    """Finds the other hands at faces with one."""

    def __init__(self, landmarks: HandLandmarks, config: DetectorConfig) -> None:
        self._landmarks, self.config = landmarks, config

    def __call__(self, cases: Sequence[OneHand]) -> list[Hand | None]:
        """The second hand of each case, None if there is none to be seen."""
        regions = [_prompts(case) for case in cases]
        # the network moves a crop that is a little off towards the hand, long before it is sure of it
        for least in _STIRS:
            regions = [
                [hand_region(found.points[:, :2]) for found in self._promising(case, looks, least)]
                for case, looks in zip(cases, self._look(cases, regions), strict=True)
            ]
        both_views = [[view for r in some for view in (r, replace(r, mirrored=True))] for some in regions]
        return [
            next((hand for hand in map(self._agreed, looks[::2], looks[1::2]) if hand and self._fits(case, hand)), None)
            for case, looks in zip(cases, self._look(cases, both_views), strict=True)
        ]

    def _look(self, cases: Sequence[OneHand], regions: Sequence[Sequence[Region]]) -> list[list[FoundHand]]:
        crops = [(case.picture, region) for case, some in zip(cases, regions, strict=True) for region in some]
        found = self._landmarks(crops)
        return [found[start:end] for start, end in pairwise(accumulate(map(len, regions), initial=0))]

    def _promising(self, case: OneHand, looks: Sequence[FoundHand], least: float) -> list[FoundHand]:
        surest = sorted(looks, key=lambda found: -found.score)[:_LOOKED_AT]
        return [found for found in surest if found.score >= least and self._fits(case, make_hand(found, None))]

    def _agreed(self, upright: FoundHand, mirrored: FoundHand) -> Hand | None:
        """The hand that two views show, each of them sure."""
        first, again = make_hand(upright, None), make_hand(mirrored, None)
        sure = min(first.score, again.score) >= self.config.hand_threshold
        agree = sure and hand_agreement(first, again) >= self.config.agreement
        return replace(merge_views(first, again), palm_score=None, found_by="bare skin") if agree else None

    def _fits(self, case: OneHand, hand: Hand) -> bool:
        """Whether it is another hand, at the face, on bare skin."""
        other = hand_agreement(hand, case.hand) <= _OTHER_HAND and is_near(hand, case.face)
        return other and hand_skin(case.face, hand, case.skin) >= _LEAST_SKIN


def _prompts(case: OneHand) -> list[Region]:
    """Crops in which the second hand may be."""
    patches = [_lean_to(case.face, centre, side) for centre, side in _bare_skin(case)]
    image = _reflect(case.face, case.hand)
    if hand_skin(case.face, image, case.skin) < _LEAST_SKIN or hand_agreement(image, case.hand) > _OTHER_HAND:
        return patches
    return [*patches, hand_region(image.keypoints[:, :2] + 0.5).grow(1.15)]


def _reflect(face: Face, hand: Hand) -> Hand:
    """The hand on the other side of the face: hairline to chin is the axis."""
    assert face.mesh is not None
    top, chin = face.mesh[10, :2], face.mesh[152, :2]
    axis = (chin - top) / max(float(np.linalg.norm(chin - top)), 1.0)
    offset = hand.keypoints[:, :2] - top
    points = top + 2 * np.outer(offset @ axis, axis) - offset
    return replace(hand, keypoints=np.column_stack([points, hand.keypoints[:, 2]]).astype(np.float32))


def _lean_to(face: Face, centre: NDArray[np.float64], side: float) -> Region:
    """A crop over a patch of skin, turned as a hand there would point: up and towards the face."""
    side = min(max(1.5 * side, 0.7 * face.size), 1.4 * face.size)
    right_of_face = centre[0] > (face.box[0] + face.box[2]) / 2
    return Region(float(centre[0]), float(centre[1]), side, side, -_LEAN if right_of_face else _LEAN)


def _bare_skin(case: OneHand) -> list[tuple[NDArray[np.float64], float]]:
    """Centre and longer side of the largest patches of body skin near the face, less what the first hand covers."""
    import cv2

    face = case.face
    x0, y0, x1, y1 = (max(0, int(v)) for v in _surroundings(face))
    step = max(1, int(face.size / _GRID))
    bare = (case.skin[y0:y1:step, x0:x1:step] == BODY_SKIN).astype(np.uint8)
    if not bare.any():
        return []
    size = face.size / step
    points = (case.hand.keypoints[:, :2] - (x0, y0)) / step
    first = replace(case.hand, keypoints=np.column_stack([points, case.hand.keypoints[:, 2]]))
    drawn = hand_mask(first, face_scale(face) / step, (bare.shape[0], bare.shape[1]), np.zeros(2))
    bare &= 1 - cv2.dilate(drawn, _square(0.09 * size))
    bare = np.asarray(cv2.morphologyEx(bare, cv2.MORPH_OPEN, _square(0.04 * size)), np.uint8)
    _, _, stats, centres = cv2.connectedComponentsWithStats(bare)
    patches = [
        (
            np.array([x0, y0]) + step * centres[i],
            float(step * stats[i, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max()),
        )
        for i in sorted(range(1, len(stats)), key=lambda i: -int(stats[i, cv2.CC_STAT_AREA]))[:_BLOBS]
        if stats[i, cv2.CC_STAT_AREA] >= _LEAST_BLOB * size**2
    ]
    return [(centre, side) for centre, side in patches if not _is_neck(face, centre)]


def _is_neck(face: Face, centre: NDArray[np.float64]) -> bool:
    x0, _, x1, y1 = face.box
    return bool(centre[1] > y1 and x0 < centre[0] < x1)


def _surroundings(face: Face) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = face.box
    return x0 - 0.8 * face.size, y0 - 0.7 * face.size, x1 + 0.8 * face.size, y1 + 0.8 * face.size


def _square(side: float) -> NDArray[np.uint8]:
    """A kernel of odd size."""
    return np.ones((max(3, int(side) | 1),) * 2, np.uint8)
