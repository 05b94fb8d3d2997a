"""The default detector: MediaPipe's face mesh and hands, searched for harder than one plain pass does.

MediaPipe loses faces that a hand hides and hands that lie on a face. So the cheap face pass runs first; where there is a
face and no hand at it, crops around the face are tried, mirrored and rotated, at lower thresholds, and what only a weak
pass sees is kept only when a second, different view of it agrees.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.model.prediction.view import Box, View, grown, overlap, square, whole
from handface.pipeline.contract.detections import Detections, Face, Hand, Side
from handface.pipeline.contract.sample import AnnotatorRecord

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


@dataclass(frozen=True)
class MediaPipeConfig:
    """Thresholds and limits of the detector."""

    face_threshold: float = 0.5
    """A face this sure needs no second opinion."""
    weak_face_threshold: float = 0.25
    """Below `face_threshold`, a face counts only if the mesh network confirms it in two views."""
    hand_threshold: float = 0.5
    """A hand found on the whole image at this threshold counts."""
    weak_hand_threshold: float = 0.3
    """In crops around a face, a hand this weak counts only if two views agree on it."""
    max_faces: int = 6
    """Faces whose mesh is placed, the largest first."""
    max_side: int = 1280
    """Images are shrunk to this before the whole-image passes."""
    crop_side: int = 384
    """Side of the views made around a face."""
    agreement: float = 0.7
    """Two hands agree when their score (1 - mean point distance / hand size) is at least this."""


class MediaPipeAnnotator:
    """MediaPipe 0.10.14's legacy solutions (models inside its wheel). One thread; not safe to share between threads."""

    def __init__(self, config: MediaPipeConfig = MediaPipeConfig()) -> None:
        import mediapipe as mp

        self.config = config
        solutions = mp.solutions
        detection = solutions.face_detection.FaceDetection
        low = min(config.weak_face_threshold, config.face_threshold)
        self._near_faces = detection(model_selection=0, min_detection_confidence=low)
        self._far_faces = detection(model_selection=1, min_detection_confidence=low)
        mesh = {"static_image_mode": True, "max_num_faces": 1, "refine_landmarks": True}
        self._mesh = solutions.face_mesh.FaceMesh(**mesh, min_detection_confidence=low, min_tracking_confidence=0.5)
        hands = {"static_image_mode": True, "model_complexity": 1}
        weak, sure = config.weak_hand_threshold, config.hand_threshold
        self._hands = solutions.hands.Hands(**hands, max_num_hands=4, min_detection_confidence=sure)
        self._weak_hands = solutions.hands.Hands(
            **hands, max_num_hands=2, min_detection_confidence=weak, min_tracking_confidence=weak
        )

    def close(self) -> None:
        """Free the graphs."""
        for solution in (self._near_faces, self._far_faces, self._mesh, self._hands, self._weak_hands):
            solution.close()

    def annotate(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Detections] | None = None
    ) -> list[Detections]:
        """Images (H, W, 3) uint8 RGB -> faces (largest first) and hands. `boxes` is not needed and not looked at."""
        return [self._annotate(image) for image in images]

    def _annotate(self, image: NDArray[np.uint8]) -> Detections:
        view = whole(image, self.config.max_side)
        faces = self.find_faces(image, view)
        placed = [face for face in faces if face.mesh is not None]
        if not placed:
            return Detections(tuple(faces))
        hands = self._run_hands(self._hands, view)
        for face in placed[:2]:
            if not any(is_at(hand, face) for hand in hands):
                hands += self.search_hands(image, face, hands)
        return Detections(tuple(faces), tuple(_distinct(hands, self.config.agreement)))

    # --- faces ---

    def find_faces(self, image: NDArray[np.uint8], view: View) -> list[Face]:
        """Faces with mesh and 68 landmarks, largest first; two detectors propose, the mesh network confirms.

        In a crowd, faces beyond the `max_faces` largest are returned as sure boxes only (mesh None).
        """
        proposals = sorted(self._propose(view), key=lambda proposal: -_longer_side(proposal[0]))
        faces: list[Face] = []
        for box, score in proposals[: self.config.max_faces]:
            face = self._place_mesh(image, box, score)
            if face is not None and all(overlap(face.box, other.box) < 0.4 for other in faces):
                faces.append(face)
        rest = proposals[self.config.max_faces :]
        faces += [_box_only(box, score) for box, score in rest if score >= self.config.face_threshold]
        return sorted(faces, key=lambda face: -face.size)

    def _propose(self, view: View) -> list[tuple[Box, float]]:
        height, width = view.pixels.shape[:2]
        proposals: list[tuple[Box, float]] = []
        for detector in (self._near_faces, self._far_faces):
            for detection in detector.process(view.pixels).detections or ():
                relative = detection.location_data.relative_bounding_box
                low = view.to_image(np.array([[relative.xmin * width, relative.ymin * height]]))[0]
                size = np.array([relative.width * width, relative.height * height]) * view.scale
                proposals.append(((*low.tolist(), *(low + size).tolist()), float(detection.score[0])))
        proposals.sort(key=lambda proposal: -proposal[1])
        kept: list[tuple[Box, float]] = []
        for box, score in proposals:
            if all(overlap(box, other) < 0.3 for other, _ in kept):
                kept.append((box, score))
        return kept

    def _place_mesh(self, image: NDArray[np.uint8], box: Box, score: float) -> Face | None:
        """The mesh in a crop around a proposed box; a weak proposal must give the same mesh in a second, turned view."""
        sure = score >= self.config.face_threshold
        found: list[NDArray[np.float32]] = []
        for growth, angle in ((1.7, 0), (2.4, 15), (1.7, -15)):
            mesh = self._run_mesh(square(image, grown(box, growth), 320, angle))
            if mesh is None or overlap(_box(mesh), box) < 0.15:
                continue
            found.append(mesh)
            if sure or len(found) == 2:
                break
        if not found or (not sure and (len(found) < 2 or overlap(_box(found[0]), _box(found[1])) < 0.6)):
            return None
        return _face(found[0], score, "sure" if sure else "weak")

    def _run_mesh(self, view: View) -> NDArray[np.float32] | None:
        found = self._mesh.process(view.pixels).multi_face_landmarks
        if not found:
            return None
        size = view.pixels.shape[1]
        points = np.array([(p.x, p.y, p.z) for p in found[0].landmark]) * size
        image_points = view.to_image(points[:, :2] - 0.5)
        return np.column_stack([image_points, points[:, 2] * view.scale]).astype(np.float32)

    # --- hands ---

    def search_hands(self, image: NDArray[np.uint8], face: Face, known: Sequence[Hand] = ()) -> list[Hand]:
        """A hand at a face besides the known ones: two of several views around the face must agree on it."""
        seen: list[Hand] = []
        for view in self._views_around(image, face):
            for hand in self._run_hands(self._weak_hands, view):
                if not is_near(hand, face) or any(hand_agreement(hand, other) > 0.5 for other in known):
                    continue
                partners = [(other, hand_agreement(hand, other)) for other in seen]
                other, agreement = max(partners, key=lambda pair: pair[1], default=(None, 0.0))
                if other is not None and agreement >= self.config.agreement:
                    return [replace(other, agreement=agreement)]
                seen.append(hand)
        return []

    def _views_around(self, image: NDArray[np.uint8], face: Face) -> Iterable[View]:
        size = self.config.crop_side
        low = (face.box[0], face.box[1] + 0.4 * face.size, face.box[2], face.box[3] + 0.4 * face.size)
        yield square(image, grown(low, 2.6), size, name="around")
        yield square(image, grown(low, 2.6), size, mirrored=True, name="around-mirrored")
        yield square(image, grown(face.box, 1.7), size, name="close")
        yield square(image, grown(low, 2.2), size, angle=40, name="turned+40")
        yield square(image, grown(low, 2.2), size, angle=-40, mirrored=True, name="turned-40")
        yield square(image, grown(face.box, 3.6), size, name="wide")
        yield square(image, grown(face.box, 1.7), size, mirrored=True, name="close-mirrored")
        yield square(image, grown(low, 2.2), size, angle=180, name="upside-down")

    def _run_hands(self, network: Any, view: View) -> list[Hand]:
        found = network.process(view.pixels)
        if not found.multi_hand_landmarks:
            return []
        height, width = view.pixels.shape[:2]
        hands = []
        for landmarks, world, handedness in zip(
            found.multi_hand_landmarks, found.multi_hand_world_landmarks, found.multi_handedness, strict=True
        ):
            points = np.array([(p.x * width, p.y * height, p.z * width) for p in landmarks.landmark])
            label = handedness.classification[0]
            # These solutions assume a selfie (mirrored) picture, so their "Left" is a right hand in an ordinary photo.
            right = (label.label == "Left") != view.mirrored
            side: Side = "right" if right else "left"
            metric = np.array([(p.x, p.y, p.z) for p in world.landmark], np.float32)
            inside = ((points[:, :2] > 0) & (points[:, :2] < (width, height))).all(1)
            image_points = view.to_image(points[:, :2] - 0.5)
            confidence = np.where(inside, label.score, 0.3 * label.score)
            hands.append(
                Hand(
                    keypoints=np.column_stack([image_points, confidence]).astype(np.float32),
                    side=side,
                    score=float(label.score),
                    side_score=float(label.score),
                    z=(points[:, 2] * view.scale).astype(np.float32),
                    world=metric,
                    found_by=view.name,
                )
            )
        return hands

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """The networks used, with the hashes of the files inside the installed wheel."""
        return mediapipe_records(self.config)


def mediapipe_records(config: MediaPipeConfig) -> tuple[AnnotatorRecord, ...]:
    """Provenance of the bundled networks, read from the installed wheel without starting them."""
    from handface.pipeline.contract.model_store import ModelStore

    store = ModelStore()
    thresholds = {"face": config.face_threshold, "weak_face": config.weak_face_threshold}
    hand_thresholds = {"hand": config.hand_threshold, "weak_hand": config.weak_hand_threshold}
    return (
        store.record("mediapipe-face-detection-short", thresholds),
        store.record("mediapipe-face-detection-full", thresholds),
        store.record("mediapipe-face-landmarks", thresholds),
        store.record("mediapipe-palm-detection", hand_thresholds),
        store.record("mediapipe-hand-landmarks", hand_thresholds),
    )


def hand_agreement(a: Hand, b: Hand) -> float:
    """1 - mean distance of the 21 points / hand size: 1 for the same points, 0 when a hand size apart."""
    distance = np.linalg.norm(a.keypoints[:, :2] - b.keypoints[:, :2], axis=1).mean()
    size = max(_longer_side(a.box), _longer_side(b.box), 1.0)
    return float(np.clip(1 - distance / size, 0, 1))


def _distinct(hands: list[Hand], agreement: float) -> list[Hand]:
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.score):
        if all(hand_agreement(hand, other) < agreement and overlap(hand.box, other.box) < 0.6 for other in kept):
            kept.append(hand)
    return kept


def is_near(hand: Hand, face: Face) -> bool:
    """Whether any hand point lies within a quarter of a face size of the face box."""
    return _gap(hand, face) < 0.25


def is_at(hand: Hand, face: Face) -> bool:
    """Whether any hand point lies well inside the face box."""
    return _gap(hand, face) < -0.08


def _gap(hand: Hand, face: Face) -> float:
    """Distance of the nearest hand point to the face box in face sizes, negative inside."""
    x0, y0, x1, y1 = face.box
    x, y = hand.keypoints[:, 0], hand.keypoints[:, 1]
    return float(np.maximum(np.maximum(x0 - x, x - x1), np.maximum(y0 - y, y - y1)).min() / face.size)


def _longer_side(box: Box) -> float:
    return max(box[2] - box[0], box[3] - box[1])


def _face(mesh: NDArray[np.float32], score: float, found_by: str) -> Face:
    points = mesh[list(FACE_68_FROM_478), :2]
    keypoints = np.column_stack([points, np.full(len(points), score)]).astype(np.float32)
    return Face(_box(mesh), score, keypoints, mesh, found_by)


def _box_only(box: Box, score: float) -> Face:
    return Face(box, score, np.zeros((68, 3), np.float32), None, "crowd")


def _box(mesh: NDArray[np.float32]) -> Box:
    low, high = mesh[:, :2].min(0), mesh[:, :2].max(0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])
