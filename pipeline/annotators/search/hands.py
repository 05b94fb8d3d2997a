"""Hands at the faces of many pictures.

    palms on the whole picture and around each face -> where one stirs, from two more sides -> hand points of each palm
    -> a hand near a face counts if two views show it, one of them in a mirror

What one view alone shows is looked at again in a mirrored crop of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from handface.model.prediction.view import expand_box, iou
from handface.pipeline.annotators.landmarks import hand_agreement, is_near
from handface.pipeline.annotators.networks.mediapipe import FoundHand, FoundPalm, HandLandmarks, PalmDetector
from handface.pipeline.annotators.networks.regions import NetworkPicture, Region, square_region
from handface.pipeline.annotators.search.config import DetectorConfig
from handface.pipeline.annotators.search.faces import centre_pixels
from handface.pipeline.contract.detections import Face, Hand, Side

_AROUND = 2.6  # side of the views around a face, in face sizes
_OWN_CROPS = (2.7, 3.6)  # sides of the crops that confirm a hand, in its own size
_NEARLY_WHOLE = 0.8  # of the picture's side
_LOOKED_AT = 4  # palms in such a crop, the surest
_SAME_PALM = 0.15  # of the crop, whose side is 2.6 palms
_SURE_SIDE = 0.95  # of two hands at one face, this sure of their sides, neither is turned round


@dataclass(frozen=True)
class _Sight:
    """A hand that one view shows."""

    picture: int
    hand: Hand
    mirrored: bool


class HandSearch:
    """Finds hands, above all those at faces."""

    def __init__(self, palms: PalmDetector, landmarks: HandLandmarks, config: DetectorConfig) -> None:
        self._palms, self._landmarks, self.config = palms, landmarks, config

    def __call__(self, pictures: Sequence[NetworkPicture], faces: Sequence[Sequence[Face]]) -> list[list[Hand]]:
        """Hands of each picture, the surest first; those near a face have been seen in two views.

        Args:
            pictures: to search.
            faces: of each picture; hands are searched around those with a mesh, the largest first.
        """
        placed = [[face for face in some if face.mesh is not None] for some in faces]
        near: list[_Sight] = []
        hands: list[list[Hand]] = [[] for _ in pictures]
        for sight in self._see(pictures, self._search_palms(pictures, placed)):
            if any(is_near(sight.hand, face) for face in placed[sight.picture]):
                near.append(sight)
            elif _palm(sight.hand) >= self.config.palm_threshold:
                hands[sight.picture].append(sight.hand)
        for i, hand in self._confirm(pictures, near):
            hands[i].append(hand)
        return [
            oppose_sides(_distinct(some, self.config.agreement), around)
            for some, around in zip(hands, placed, strict=True)
        ]

    # --- palms ---

    def _search_palms(
        self, pictures: Sequence[NetworkPicture], faces: Sequence[Sequence[Face]]
    ) -> list[list[FoundPalm]]:
        """Palms of each picture, of each place the surest, from upright and from mirrored views."""
        views: list[tuple[int, Region]] = []
        for i, (picture, some) in enumerate(zip(pictures, faces, strict=True)):
            whole = picture.whole()
            around = [_view(face, 0.0, 0.4) for face in some[: self.config.searched_faces]]
            # where the face fills the picture, the whole of it is such a view already
            views += [(i, whole), *((i, view) for view in around if view.width < _NEARLY_WHOLE * whole.width)]
        palms = self._look(pictures, faces, views)
        stirred = [
            (i, face)
            for i, some in enumerate(faces)
            for face in some[: self.config.searched_faces]
            if any(_may_touch(palm, face) for palm in palms[i])
        ]
        sides = [(i, _view(face, -0.5, 0.6)) for i, face in stirred]
        sides += [(i, replace(_view(face, 0.5, 0.6), mirrored=True)) for i, face in stirred]
        beside = self._look(pictures, faces, sides)
        return [_distinct_palms(first + more) for first, more in zip(palms, beside, strict=True)]

    def _look(
        self,
        pictures: Sequence[NetworkPicture],
        faces: Sequence[Sequence[Face]],
        views: Sequence[tuple[int, Region]],
    ) -> list[list[FoundPalm]]:
        """Palms of each picture in its views; weak ones only if they may touch a face."""
        found = self._palms([(pictures[i], view) for i, view in views], self.config.weak_palm_threshold)
        palms: list[list[FoundPalm]] = [[] for _ in pictures]
        for (i, _), some in zip(views, found, strict=True):
            palms[i] += [
                palm
                for palm in some
                if palm.score >= self.config.palm_threshold or any(_may_touch(palm, face) for face in faces[i])
            ]
        return palms

    def _see(self, pictures: Sequence[NetworkPicture], palms: Sequence[Sequence[FoundPalm]]) -> list[_Sight]:
        """The hands of palms, those left out that do not look like one."""
        wanted = [(i, palm) for i, some in enumerate(palms) for palm in some]
        marks = self._landmarks([(pictures[i], palm.region) for i, palm in wanted])
        return [
            _Sight(i, make_hand(mark, palm.score), palm.region.mirrored)
            for (i, palm), mark in zip(wanted, marks, strict=True)
            if mark.score >= self.config.hand_threshold
        ]

    # --- hands ---

    def _confirm(self, pictures: Sequence[NetworkPicture], sights: Sequence[_Sight]) -> list[tuple[int, Hand]]:
        """The hands that two views show, each with the number of its picture."""
        confirmed, rest = self._pair_up(sights)
        for growth in _OWN_CROPS:
            rest = [
                sight
                for sight in rest
                if all(i != sight.picture or not self._agree(sight.hand, hand) for i, hand in confirmed)
            ]
            again = [(sight, self._look_again(sight, seen)) for sight, seen in self._own_crops(pictures, rest, growth)]
            confirmed += [(sight.picture, hand) for sight, hand in again if hand is not None]
            rest = [sight for sight, hand in again if hand is None]
        return confirmed

    def _pair_up(self, sights: Sequence[_Sight]) -> tuple[list[tuple[int, Hand]], list[_Sight]]:
        """Hands that an upright and a mirrored view show at once, and the sights that found no partner."""
        rest = sorted(sights, key=lambda sight: -_palm(sight.hand))
        pairs: list[tuple[int, Hand]] = []
        alone: list[_Sight] = []
        while rest:
            first, *rest = rest
            partner = next((k for k, other in enumerate(rest) if self._is_partner(first, other)), None)
            if partner is None:
                alone.append(first)
            else:
                pairs.append((first.picture, merge_views(first.hand, rest.pop(partner).hand)))
        return pairs, alone

    def _own_crops(
        self, pictures: Sequence[NetworkPicture], sights: Sequence[_Sight], growth: float
    ) -> list[tuple[_Sight, list[Hand]]]:
        """Each sight with the hands that a mirrored crop `growth` times its size shows."""
        views = [square_region(expand_box(sight.hand.box, growth)) for sight in sights]
        crops = [(pictures[s.picture], replace(view, mirrored=True)) for s, view in zip(sights, views, strict=True)]
        palms = self._palms(crops, self.config.weak_palm_threshold)
        seen: list[list[Hand]] = [[] for _ in sights]
        places = [pictures[sight.picture] for sight in sights]
        for sight in self._see(places, [some[:_LOOKED_AT] for some in palms]):
            seen[sight.picture].append(sight.hand)
        return list(zip(sights, seen, strict=True))

    def _look_again(self, sight: _Sight, seen: Sequence[Hand]) -> Hand | None:
        """The hand as its own crop shows it, None if that shows another one or none."""
        best = max(seen, key=lambda hand: hand_agreement(sight.hand, hand), default=None)
        return merge_views(sight.hand, best) if best is not None and self._same_hand(sight.hand, best) else None

    def _agree(self, a: Hand, b: Hand) -> bool:
        return hand_agreement(a, b) >= self.config.agreement

    def _is_partner(self, a: _Sight, b: _Sight) -> bool:
        return a.picture == b.picture and a.mirrored != b.mirrored and self._same_hand(a.hand, b.hand)

    def _same_hand(self, a: Hand, b: Hand) -> bool:
        """Whether two views show one hand, and are sure enough of its palm."""
        return max(_palm(a), _palm(b)) >= self.config.palm_threshold and self._agree(a, b)


def _view(face: Face, right: float, down: float) -> Region:
    """Where a hand at the face would be seen: a square, its centre moved from the face's, in face sizes."""
    x0, y0, x1, y1 = face.box
    side = _AROUND * face.size
    return Region((x0 + x1) / 2 + right * face.size, (y0 + y1) / 2 + down * face.size, side, side)


def make_hand(found: FoundHand, palm_score: float | None) -> Hand:
    """A hand as the landmark network shows it; palm_score: of the palm network, None if it did not look."""
    points = centre_pixels(found.points)
    right = found.right >= 0.5
    side: Side = "right" if right else "left"
    return Hand(
        keypoints=np.column_stack([points[:, :2], np.full(21, found.score)]).astype(np.float32),
        side=side,
        score=found.score,
        side_score=found.right if right else 1 - found.right,
        z=points[:, 2],
        world=found.world,
        found_by="search",
        palm_score=palm_score,
    )


def merge_views(first: Hand, again: Hand) -> Hand:
    """One hand from two views: points halfway between them, the side as both together say."""
    right = sum(hand.side_score if hand.side == "right" else 1 - hand.side_score for hand in (first, again)) / 2
    side: Side = "right" if right >= 0.5 else "left"
    return replace(
        again,
        keypoints=((first.keypoints + again.keypoints) / 2).astype(np.float32),
        side=side,
        side_score=max(right, 1 - right),
        agreement=hand_agreement(first, again),
        palm_score=max(_palm(first), _palm(again)),
        found_by="two views",
    )


def oppose_sides(hands: list[Hand], faces: Sequence[Face]) -> list[Hand]:
    """Two hands at the one face of a picture are a left and a right one: turn the one whose side is less sure."""
    near = [hand for hand in hands if any(is_near(hand, face) for face in faces)]
    if len(faces) != 1 or len(near) != 2 or near[0].side != near[1].side:
        return hands
    doubtful = min(near, key=lambda hand: hand.side_score)
    if doubtful.side_score >= _SURE_SIDE:
        return hands
    side: Side = "left" if doubtful.side == "right" else "right"
    return [replace(hand, side=side, side_score=1 - hand.side_score) if hand is doubtful else hand for hand in hands]


def _palm(hand: Hand) -> float:
    return hand.palm_score or 0.0


def _distinct_palms(palms: list[FoundPalm]) -> list[FoundPalm]:
    """Of palms in one place, the surest upright and the surest mirrored one.

    Crops of two hands at one face overlap too much to tell by.
    """
    kept: list[FoundPalm] = []
    for palm in sorted(palms, key=lambda palm: -palm.score):
        rivals = [other for other in kept if other.region.mirrored == palm.region.mirrored]
        if all(_palm_distance(palm, other) > _SAME_PALM for other in rivals):
            kept.append(palm)
    return kept


def _may_touch(palm: FoundPalm, face: Face) -> bool:
    """Whether the crop of a palm's hand meets the surroundings of a face."""
    return iou(palm.region.bounds(), expand_box(face.box, 1.5)) > 0


def _palm_distance(a: FoundPalm, b: FoundPalm) -> float:
    """Mean distance of the seven keypoints, in sizes of the larger crop."""
    distance = np.linalg.norm(a.keypoints - b.keypoints, axis=1).mean()
    return float(distance / max(a.region.width, b.region.width))


def _distinct(hands: list[Hand], agreement: float) -> list[Hand]:
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.score):
        if all(hand_agreement(hand, other) < agreement and iou(hand.box, other.box) < 0.6 for other in kept):
            kept.append(hand)
    return kept
