"""The pipeline's detector in the shape prediction wants: every hand that is near a face, as one person each."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from handface.model.prediction.prediction import Detection, NobodyFoundError
from handface.pipeline.annotators.analyser import Analyser, DetectorError
from handface.pipeline.annotators.detector import DetectorConfig, HandFaceDetector
from handface.pipeline.annotators.landmarks import is_near
from handface.pipeline.annotators.selfie_segmenter import SEGMENTER, SelfieSegmenter
from handface.pipeline.contract.detections import Detections, Face, Hand
from handface.pipeline.stages.contact_evidence import ContactConfig, contact_evidence, scale_ratio
from handface.pipeline.stages.detect import visible_share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handface.predict.depth import DepthOfPeople

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PeopleConfig:
    """Who counts. Wider than the filter for training data: whether a near hand touches is the network's to say."""

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    contact: ContactConfig = field(default_factory=ContactConfig)
    min_face: int = 32
    """Faces smaller than this (longer side, pixels) are left out."""
    min_visible: float = 0.5
    """Share of the 68 landmarks that must lie inside the photo."""
    hand_scale: tuple[float, float] = (0.5, 2.5)
    """A hand that appears smaller or larger than this for the face's distance is behind it, in front of it, or another's."""


class PeopleDetector:
    """Finds people with a hand near their face. The networks are loaded at the first photo.

    The skin segmenter is used if its weights are on this machine; nothing is fetched.
    depth: looks at the depth of each person's points; None leaves it unknown.
    """

    def __init__(self, config: PeopleConfig = PeopleConfig(), depth: DepthOfPeople | None = None) -> None:
        self.config, self._depth = config, depth
        self._analyser: Analyser | None = None

    def __call__(self, image: NDArray[np.uint8]) -> list[Detection]:
        """RGB (H, W, 3) uint8 -> people, the likeliest contact first.

        Raises NobodyFoundError with the reason; DetectorError if the detector fails on the photo.
        """
        self._analyser = self._analyser or self._start()
        (answer,) = self._analyser.analyse([image])
        if isinstance(answer, DetectorError):
            raise answer
        found = people(answer.found, answer.skin, image.shape[1], image.shape[0], self.config)
        detections = [as_detection(person) for person in found]
        if self._depth is None:
            return detections
        depths = self._depth(image, found, answer.skin)
        return [replace(one, depth=depth) for one, depth in zip(detections, depths, strict=True)]

    def close(self) -> None:
        """Free the networks; the next photo loads them again."""
        self._analyser = None

    def _start(self) -> Analyser:
        from handface.pipeline.contract.model_store import ModelStore

        segmenter = ModelStore().find(SEGMENTER) is not None
        if not segmenter:
            log.info("whose hand is whose is judged without the skin segmenter; `handface models pull %s`", SEGMENTER)
        runtime = self.config.detector.runtime
        return Analyser(HandFaceDetector(self.config.detector), SelfieSegmenter(runtime) if segmenter else None)


@dataclass(frozen=True)
class HandAtFace:
    """A hand and the face that it most likely touches, with the score of that."""

    score: float
    face: Face
    hand: Hand


def people(
    found: Detections, skin: NDArray[np.uint8] | None, width: int, height: int, config: PeopleConfig = PeopleConfig()
) -> list[HandAtFace]:
    """Faces and hands of a photo -> every hand near a face with that face, the likeliest contact first.

    skin: (H, W) class map or None.  Raises NobodyFoundError saying what is missing.
    """
    faces = _usable(found, width, height, config)
    if not found.hands:
        raise NobodyFoundError("a face, but no hand")
    pairs: list[HandAtFace] = []
    palms = 0
    for hand in found.hands:
        near = [face for face in faces if is_near(hand, face) and _at_the_distance_of(face, hand, config)]
        scored = [(contact_evidence(face, hand, skin), face) for face in near]
        real = [pair for pair in scored if not pair[0].is_palm(config.contact)]
        palms += len(scored) - len(real)
        if real:
            evidence, face = max(real, key=lambda pair: (pair[0].score(config.contact), pair[0].overlap))
            pairs.append(HandAtFace(evidence.score(config.contact), face, hand))
    if not pairs:
        raise NobodyFoundError(
            "no face: what looks like one is a palm" if palms else "a face and a hand, but no hand near a face"
        )
    return sorted(pairs, key=lambda pair: (-pair.score, -pair.face.size))


def _usable(found: Detections, width: int, height: int, config: PeopleConfig) -> list[Face]:
    if not found.faces:
        raise NobodyFoundError("no face")
    placed = [face for face in found.faces if face.mesh is not None and face.size >= config.min_face]
    if not placed:
        largest = max(face.size for face in found.faces)
        raise NobodyFoundError(f"no face large enough: the largest is {largest:.0f} pixels, at least {config.min_face}")
    whole = [face for face in placed if visible_share(face, width, height) >= config.min_visible]
    if not whole:
        share = max(visible_share(face, width, height) for face in placed)
        raise NobodyFoundError(f"the face is cut: {share:.0%} of it is inside the photo")
    return whole


def _at_the_distance_of(face: Face, hand: Hand, config: PeopleConfig) -> bool:
    return config.hand_scale[0] <= scale_ratio(face, hand) <= config.hand_scale[1]


def as_detection(person: HandAtFace) -> Detection:
    """In the shape that prediction wants."""
    face, hand = person.face, person.hand
    confidence = min(face.score, hand.score, 1.0)
    return Detection(face.keypoints, hand.keypoints, hand.side, confidence, face.box, hand.world)
