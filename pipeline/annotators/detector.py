"""The default detector: MediaPipe's networks, and a search for hands at faces that ends early.

Each step runs over all pictures of the call together. A picture without a face costs two small networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.annotators.landmarks import is_near
from handface.pipeline.annotators.networks.mediapipe import (
    FaceDetector,
    FaceMesh,
    HandLandmarks,
    PalmDetector,
    open_network,
)
from handface.pipeline.annotators.networks.regions import NetworkPicture
from handface.pipeline.annotators.search.config import DetectorConfig
from handface.pipeline.annotators.search.faces import FaceSearch
from handface.pipeline.annotators.search.hands import HandSearch, oppose_sides
from handface.pipeline.annotators.search.second import OneHand, SecondHandSearch
from handface.pipeline.contract.detections import Detections
from handface.pipeline.contract.sample import AnnotatorRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NETWORKS", "DetectorConfig", "HandFaceDetector", "detector_records"]

NETWORKS = (
    "mediapipe-face-detection-short",
    "mediapipe-face-detection-full",
    "mediapipe-face-landmarks",
    "mediapipe-palm-detection",
    "mediapipe-hand-landmarks",
)


class HandFaceDetector:
    """Faces and hands of many pictures in one call. Not safe to share between threads. Raises ModelError or NetworkError."""

    def __init__(self, config: DetectorConfig = DetectorConfig()) -> None:
        self.config = config
        runtime = config.runtime
        # LiteRT lacks operators of the mesh
        mesh_runtime = replace(runtime, name="onnxruntime") if runtime.name == "litert" else runtime
        runtimes = (runtime, runtime, mesh_runtime, runtime, runtime)
        short, full, mesh, palm, hand = map(open_network, NETWORKS, runtimes)
        near, far = FaceDetector(short, full_range=False), FaceDetector(full, full_range=True)
        self.find_faces = FaceSearch(near, far, FaceMesh(mesh), config)
        landmarks = HandLandmarks(hand)
        self.find_hands = HandSearch(PalmDetector(palm), landmarks, config)
        self.find_second_hands = SecondHandSearch(landmarks, config)

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

    def add_second_hands(
        self,
        images: Sequence[NDArray[np.uint8]],
        detections: Sequence[Detections],
        skins: Sequence[NDArray[np.uint8] | None],
    ) -> list[Detections]:
        """What `annotate` found, and the other hand at a picture's largest face where it found one.

        Args:
            images: (H, W, 3) uint8 RGB.
            detections: of each image.
            skins: (H, W) uint8 class map of each image, None where no second hand is looked for.

        Raises:
            NetworkError: a network's answer is not finite.
        """
        answers = list(detections)
        cases: dict[int, OneHand] = {}
        for i, (image, found, skin) in enumerate(zip(images, detections, skins, strict=True)):
            face = next((face for face in found.faces if face.mesh is not None), None)
            near = [hand for hand in found.hands if face is not None and is_near(hand, face)]
            if face is not None and skin is not None and len(near) == 1:
                cases[i] = OneHand(NetworkPicture(image, self.config.max_side), face, near[0], skin)
        for i, second in zip(cases, self.find_second_hands(list(cases.values())), strict=True):
            if second is not None:
                placed = [face for face in answers[i].faces if face.mesh is not None]
                answers[i] = replace(answers[i], hands=tuple(oppose_sides([*answers[i].hands, second], placed)))
        return answers

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
