"""The default detector: MediaPipe's networks, and a search for hands at faces that ends early.

    faces on the whole picture -> meshes -> palms on the whole picture and around each face -> every hand near a face
    looked at again in a mirrored crop of its own, which must show the same hand

Each step runs over all pictures of the call together. A picture without a face costs two small networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from handface.model.prediction.view import Box, expand_box, iou
from handface.pipeline.annotators.landmarks import (
    face_from_mesh,
    hand_agreement,
    is_near,
    longer_side,
)
from handface.pipeline.annotators.networks.mediapipe import (
    FaceDetector,
    FaceMesh,
    FoundFace,
    FoundHand,
    FoundPalm,
    HandLandmarks,
    PalmDetector,
    open_network,
)
from handface.pipeline.annotators.networks.regions import NetworkPicture, Region
from handface.pipeline.annotators.networks.runtime import RuntimeConfig
from handface.pipeline.contract.detections import Detections, Face, Hand, Side
from handface.pipeline.contract.sample import AnnotatorRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

NETWORKS = (
    "mediapipe-face-detection-short",
    "mediapipe-face-detection-full",
    "mediapipe-face-landmarks",
    "mediapipe-palm-detection",
    "mediapipe-hand-landmarks",
)


_OWN_CROPS = (2.7, 3.6)  # sides of the crops that confirm a hand, in its own size
_NEARLY_WHOLE = 0.8  # of the picture's side
_LOOKED_AT = 4  # palms in such a crop, the surest
_SAME_PALM = 0.15  # of the crop, whose side is 2.6 palms


@dataclass(frozen=True)
class DetectorConfig:
    """Thresholds and limits of the detector."""

    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    face_threshold: float = 0.5
    """Score of a face on the whole picture, short range."""
    far_face_threshold: float = 0.6
    """The same, full range."""
    mesh_threshold: float = 0.5
    """Score of the mesh network, that its crop shows a face."""
    palm_threshold: float = 0.5
    """A palm this sure counts wherever it is."""
    weak_palm_threshold: float = 0.3
    """A palm this weak is looked at if it is near a face; it counts if its own crop shows a surer one."""
    hand_threshold: float = 0.5
    """Score of the landmark network, that its crop shows a hand."""
    max_faces: int = 6
    """Faces whose mesh is placed, the largest first; the others of a crowd are boxes."""
    searched_faces: int = 2
    """Faces around which hands are searched, the largest first."""
    max_side: int = 1280
    """Pictures are shrunk to this where a network sees more than twice its own size."""
    agreement: float = 0.7
    """Two views agree on a hand from this score on (1 - mean point distance / hand size)."""


class HandFaceDetector:
    """Faces and hands of many pictures in one call. Not safe to share between threads. Raises ModelError or NetworkError."""

    def __init__(self, config: DetectorConfig = DetectorConfig()) -> None:
        self.config = config
        others = config.runtime
        # LiteRT lacks operators of the mesh
        mesh_runtime = replace(others, name="onnxruntime") if others.name == "litert" else others
        runtimes = (others, others, mesh_runtime, others, others)
        short, full, mesh, palm, hand = map(open_network, NETWORKS, runtimes)
        self._near_faces, self._far_faces = FaceDetector(short, full_range=False), FaceDetector(full, full_range=True)
        self._mesh, self._palms, self._hands = FaceMesh(mesh), PalmDetector(palm), HandLandmarks(hand)

    def annotate(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Detections] | None = None
    ) -> list[Detections]:
        """Images (H, W, 3) uint8 RGB -> faces (largest first) and hands. `boxes` is not needed and not looked at.

        Raises:
            NetworkError: a network's answer is not finite.
        """
        pictures = [NetworkPicture(image, self.config.max_side) for image in images]
        faces = self.find_faces(pictures)
        placed = [i for i, some in enumerate(faces) if any(face.mesh is not None for face in some)]
        hands = dict(
            zip(placed, self.find_hands([pictures[i] for i in placed], [faces[i] for i in placed]), strict=True)
        )
        return [Detections(tuple(faces[i]), tuple(hands.get(i, ()))) for i in range(len(images))]

    # --- faces ---

    def find_faces(self, pictures: Sequence[NetworkPicture]) -> list[list[Face]]:
        """Faces with mesh and 68 landmarks, largest first; two detectors propose, the mesh network confirms.

        In a crowd, faces beyond the `max_faces` largest are returned as boxes only (mesh None).
        """
        proposals = self._propose(pictures)
        wanted = [(i, face) for i, some in enumerate(proposals) for face in some[: self.config.max_faces]]
        faces: list[list[Face]] = [[] for _ in pictures]
        for (i, _), face in zip(wanted, self._place_meshes(pictures, wanted), strict=True):
            if face is not None and all(iou(face.box, other.box) < 0.4 for other in faces[i]):
                faces[i].append(face)
        for some, proposed in zip(faces, proposals, strict=True):
            some += [_box_only(proposal) for proposal in proposed[self.config.max_faces :]]
            some.sort(key=lambda face: -face.size)
        return faces

    def _propose(self, pictures: Sequence[NetworkPicture]) -> list[list[FoundFace]]:
        """Faces on the whole pictures, of each place the surest, the largest first."""
        crops = [(picture, picture.whole()) for picture in pictures]
        near = self._near_faces(crops, self.config.face_threshold)
        far = self._far_faces(crops, self.config.far_face_threshold)
        proposals = []
        for found in (sorted(a + b, key=lambda face: -face.score) for a, b in zip(near, far, strict=True)):
            kept: list[FoundFace] = []
            for face in found:
                if all(iou(face.box, other.box) < 0.3 for other in kept):
                    kept.append(face)
            proposals.append(sorted(kept, key=lambda face: -longer_side(face.box)))
        return proposals

    def _place_meshes(
        self, pictures: Sequence[NetworkPicture], wanted: Sequence[tuple[int, FoundFace]]
    ) -> list[Face | None]:
        """The mesh of each proposal, its crop set by a second look from near; None if no face shows there."""
        around = [(pictures[i], _square(expand_box(proposal.box, 1.7))) for i, proposal in wanted]
        looks = self._near_faces(around, self.config.face_threshold / 2)
        regions = [
            max(found, key=lambda face: iou(face.box, proposal.box), default=proposal).region
            for (_, proposal), found in zip(wanted, looks, strict=True)
        ]
        meshes = self._mesh([(pictures[i], region) for (i, _), region in zip(wanted, regions, strict=True)])
        faces: list[Face | None] = []
        for (_, proposal), mesh in zip(wanted, meshes, strict=True):
            face = face_from_mesh(_centred(mesh.points), proposal.score, "mesh")
            seen = mesh.score >= self.config.mesh_threshold and iou(face.box, proposal.box) >= 0.15
            faces.append(face if seen else None)
        return faces

    # --- hands ---

    def find_hands(self, pictures: Sequence[NetworkPicture], faces: Sequence[Sequence[Face]]) -> list[list[Hand]]:
        """Hands of each picture, the surest first; those near a face have been seen in two views."""
        palms = self._search_palms(pictures, faces)
        wanted = [(i, palm) for i, some in enumerate(palms) for palm in some]
        marks = self._hands([(pictures[i], palm.region) for i, palm in wanted])
        first = [
            (i, _hand(mark, palm, "search"))
            for (i, palm), mark in zip(wanted, marks, strict=True)
            if mark.score >= self.config.hand_threshold
        ]
        near = [any(is_near(hand, face) for face in faces[i] if face.mesh is not None) for i, hand in first]
        sure = [
            (i, hand)
            for (i, hand), at in zip(first, near, strict=True)
            if not at and _palm(hand) >= self.config.palm_threshold
        ]
        sure += self._confirm(pictures, [pair for pair, at in zip(first, near, strict=True) if at])
        return [_distinct([hand for j, hand in sure if j == i], self.config.agreement) for i in range(len(pictures))]

    def _search_palms(
        self, pictures: Sequence[NetworkPicture], faces: Sequence[Sequence[Face]]
    ) -> list[list[FoundPalm]]:
        """Palms on the whole pictures and around the largest faces, of each place the surest."""
        views = [(i, picture.whole()) for i, picture in enumerate(pictures)]
        for i, seen in enumerate(faces):
            placed = [face for face in seen if face.mesh is not None]
            around = [_around(face) for face in placed[: self.config.searched_faces]]
            # where the face fills the picture, the whole of it is such a view already
            views += [(i, view) for view in around if view.width < _NEARLY_WHOLE * views[i][1].width]
        found = self._palms([(pictures[i], view) for i, view in views], self.config.weak_palm_threshold)
        palms: list[list[FoundPalm]] = [[] for _ in pictures]
        for (i, _), some in zip(views, found, strict=True):
            palms[i] += [
                palm for palm in some if palm.score >= self.config.palm_threshold or _may_touch(palm, faces[i])
            ]
        return [_distinct_palms(some) for some in palms]

    def _confirm(self, pictures: Sequence[NetworkPicture], hands: Sequence[tuple[int, Hand]]) -> list[tuple[int, Hand]]:
        """Look at each hand again, larger and in a mirror; keep those that the palm detector sees there, as seen there."""
        confirmed: list[tuple[int, Hand]] = []
        for growth in _OWN_CROPS:  # the next only for hands that the one before did not show
            again = self._look_again(pictures, hands, growth)
            confirmed += [(i, hand) for (i, _), hand in zip(hands, again, strict=True) if hand is not None]
            hands = [pair for pair, hand in zip(hands, again, strict=True) if hand is None]
        return confirmed

    def _look_again(
        self, pictures: Sequence[NetworkPicture], hands: Sequence[tuple[int, Hand]], growth: float
    ) -> list[Hand | None]:
        """Each hand as a mirrored crop `growth` times its size shows it, None if it shows another one or none."""
        views = [replace(_square(expand_box(hand.box, growth)), mirrored=True) for _, hand in hands]
        crops = [(pictures[i], view) for (i, _), view in zip(hands, views, strict=True)]
        palms = self._palms(crops, self.config.weak_palm_threshold)
        wanted = [(k, palm) for k, some in enumerate(palms) for palm in some[:_LOOKED_AT]]
        marks = self._hands([(pictures[hands[k][0]], palm.region) for k, palm in wanted])
        seen: list[list[Hand]] = [[] for _ in hands]
        for (k, palm), mark in zip(wanted, marks, strict=True):
            if mark.score >= self.config.hand_threshold:
                seen[k].append(_hand(mark, palm, "own crop"))
        again: list[Hand | None] = []
        for (_, hand), others in zip(hands, seen, strict=True):
            best = max(others, key=lambda other: hand_agreement(hand, other), default=hand)
            agreement = hand_agreement(hand, best)
            sure = max(_palm(hand), _palm(best)) >= self.config.palm_threshold
            agreed = best is not hand and agreement >= self.config.agreement and sure
            again.append(_merge(hand, best, agreement) if agreed else None)
        return again

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """The networks used, with the hashes of their files."""
        return detector_records(self.config)


def detector_records(config: DetectorConfig) -> tuple[AnnotatorRecord, ...]:
    """Provenance of the networks, without loading them."""
    from handface.pipeline.contract.model_store import ModelStore

    faces = {"face": config.face_threshold, "far_face": config.far_face_threshold, "mesh": config.mesh_threshold}
    hands = {
        "palm": config.palm_threshold,
        "weak_palm": config.weak_palm_threshold,
        "hand": config.hand_threshold,
        "agreement": config.agreement,
    }
    return tuple(ModelStore().record(name, faces if "face" in name else hands) for name in NETWORKS)


def _square(box: Box) -> Region:
    return Region((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1])


def _around(face: Face) -> Region:
    """Where a hand at the face would be seen: the face and what is below it."""
    low = (face.box[0], face.box[1] + 0.4 * face.size, face.box[2], face.box[3] + 0.4 * face.size)
    return _square(expand_box(low, 2.6))


def _centred(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Points whose pixels' centres are at integers, from those where they are at halves."""
    return points - np.array([0.5, 0.5, 0], np.float32)[: points.shape[1]]


def _hand(found: FoundHand, palm: FoundPalm, found_by: str) -> Hand:
    points = _centred(found.points)
    right = found.right >= 0.5
    side: Side = "right" if right else "left"
    return Hand(
        keypoints=np.column_stack([points[:, :2], np.full(21, found.score)]).astype(np.float32),
        side=side,
        score=found.score,
        side_score=found.right if right else 1 - found.right,
        z=points[:, 2],
        world=found.world,
        found_by=found_by,
        palm_score=palm.score,
    )


def _merge(first: Hand, again: Hand, agreement: float) -> Hand:
    """The hand as its own crop shows it, its side as both views together say."""
    right = sum(hand.side_score if hand.side == "right" else 1 - hand.side_score for hand in (first, again)) / 2
    side: Side = "right" if right >= 0.5 else "left"
    return replace(
        again,
        side=side,
        side_score=max(right, 1 - right),
        agreement=agreement,
        palm_score=max(_palm(first), _palm(again)),
    )


def _palm(hand: Hand) -> float:
    return hand.palm_score or 0.0


def _distinct_palms(palms: list[FoundPalm]) -> list[FoundPalm]:
    """Of palms in one place, the surest; crops of two hands at one face overlap too much to tell by."""
    kept: list[FoundPalm] = []
    for palm in sorted(palms, key=lambda palm: -palm.score):
        if all(_palm_distance(palm, other) > _SAME_PALM for other in kept):
            kept.append(palm)
    return kept


def _may_touch(palm: FoundPalm, faces: Sequence[Face]) -> bool:
    """Whether the crop of a palm's hand meets the surroundings of a face with a mesh."""
    crop = palm.region.bounds()
    return any(iou(crop, expand_box(face.box, 1.5)) > 0 for face in faces if face.mesh is not None)


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


def _box_only(found: FoundFace) -> Face:
    return Face(found.box, found.score, np.zeros((68, 3), np.float32), None, "crowd")
