"""MediaPipe's own graphs (FaceMesh and Hands of the package `mediapipe`), as its documentation shows them: the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.annotators.landmarks import FACE_68_FROM_478, face_from_mesh
from handface.pipeline.contract.config import Count, Share
from handface.pipeline.contract.detections import Detections, Hand, Side
from handface.pipeline.contract.sample import AnnotatorRecord
from handface.pipeline.engine.libraries import installed

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FACE_68_FROM_478", "MediaPipeConfig", "MediaPipeGraphs", "check_graphs", "has_graphs", "mediapipe_records"]


@dataclass(frozen=True)
class MediaPipeConfig:
    """Thresholds and limits of the reference."""

    face_threshold: Share = 0.5
    hand_threshold: Share = 0.5
    max_faces: Count = 4
    max_hands: Count = 4


def has_graphs() -> bool:
    """Whether a mediapipe with its graphs and models is installed: 0.10.5 to 0.10.21; later ones carry neither."""
    spec = find_spec("mediapipe")
    folders = spec.submodule_search_locations if spec is not None else None
    return any((Path(folder) / "python" / "solutions").is_dir() for folder in folders or ())


def check_graphs() -> None:
    """Raise ImportError, with what to do, unless mediapipe's graphs are installed."""
    if has_graphs():
        return
    found = installed(["mediapipe"]).get("mediapipe")
    have = f"mediapipe {found} has no graphs of its own" if found else "mediapipe is not installed"
    raise ImportError(
        f"annotator mediapipe: {have}; pip install 'mediapipe>=0.10.13,<0.10.15' on Python 3.11 or 3.12, or leave the annotator at"
        " its default, which runs the same networks on every Python"
    )


class MediaPipeGraphs:
    """One pass over the whole picture. One thread; not safe to share between threads."""

    def __init__(self, config: MediaPipeConfig = MediaPipeConfig()) -> None:
        check_graphs()
        import mediapipe as mp

        self.config = config
        self._mesh = mp.solutions.face_mesh.FaceMesh(
            static_image_mode=True,
            max_num_faces=config.max_faces,
            refine_landmarks=True,
            min_detection_confidence=config.face_threshold,
        )
        self._hands = mp.solutions.hands.Hands(
            static_image_mode=True, max_num_hands=config.max_hands, min_detection_confidence=config.hand_threshold
        )

    def annotate(
        self, images: Sequence[NDArray[np.uint8]], boxes: Sequence[Detections] | None = None
    ) -> list[Detections]:
        """Images (H, W, 3) uint8 RGB -> faces (largest first) and hands. `boxes` is not needed and not looked at."""
        return [self._annotate(np.ascontiguousarray(image)) for image in images]

    def _annotate(self, image: NDArray[np.uint8]) -> Detections:
        height, width = image.shape[:2]
        meshes = self._mesh.process(image).multi_face_landmarks or ()
        faces = [
            face_from_mesh(_points(mesh, width, height), self.config.face_threshold, "mediapipe") for mesh in meshes
        ]
        found = self._hands.process(image)
        marks = zip(
            found.multi_hand_landmarks or (),
            found.multi_hand_world_landmarks or (),
            found.multi_handedness or (),
            strict=True,
        )
        hands = tuple(_hand(*mark, width, height) for mark in marks)
        return Detections(tuple(sorted(faces, key=lambda face: -face.size)), hands)

    def records(self) -> tuple[AnnotatorRecord, ...]:
        """The networks used, with the hashes of the files inside the installed wheel."""
        return mediapipe_records(self.config)


def mediapipe_records(config: MediaPipeConfig) -> tuple[AnnotatorRecord, ...]:
    """Provenance of the bundled networks, read from the installed wheel without starting them."""
    from handface.pipeline.contract.model_store import ModelStore

    store, face, hand = ModelStore(), {"face": config.face_threshold}, {"hand": config.hand_threshold}
    return (
        store.record("mediapipe-face-detection-short", face),
        store.record("mediapipe-face-landmarks", face),
        store.record("mediapipe-palm-detection", hand),
        store.record("mediapipe-hand-landmarks", hand),
    )


def _points(landmarks: Any, width: int, height: int) -> NDArray[np.float32]:
    """(N, 3): x, y with pixel centres at integers, z in pixels."""
    points = np.array([(p.x * width - 0.5, p.y * height - 0.5, p.z * width) for p in landmarks.landmark])
    return points.astype(np.float32)


def _hand(landmarks: Any, world: Any, handedness: Any, width: int, height: int) -> Hand:
    points, label = _points(landmarks, width, height), handedness.classification[0]
    # The graph assumes a selfie (mirrored) picture, so its "Left" is a right hand in an ordinary photo.
    side: Side = "right" if label.label == "Left" else "left"
    return Hand(
        keypoints=np.column_stack([points[:, :2], np.full(21, label.score)]).astype(np.float32),
        side=side,
        score=float(label.score),
        side_score=float(label.score),
        z=points[:, 2],
        world=np.array([(p.x, p.y, p.z) for p in world.landmark], np.float32),
        found_by="mediapipe",
    )
