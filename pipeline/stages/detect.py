"""Faces and hands, and the skin map where a hand is at a face: everything MediaPipe does, in one killable process."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from handface.pipeline.annotators.isolated import DetectorError, DetectorHung, Isolated, IsolationConfig
from handface.pipeline.annotators.mediapipe import MediaPipeAnnotator, MediaPipeConfig, is_near, mediapipe_records
from handface.pipeline.contract.detections import Detections, Face, Hand
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.engine.record import Record, Resources

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handface.pipeline.annotators.selfie_segmenter import SelfieSegmenter

log = logging.getLogger(__name__)
SEGMENTER = "selfie-multiclass"


@dataclass(frozen=True)
class DetectConfig:
    """The detector and what counts as a usable face."""

    mediapipe: MediaPipeConfig = field(default_factory=MediaPipeConfig)
    isolation: IsolationConfig = field(default_factory=IsolationConfig)
    segmenter: Literal["auto", "on", "off"] = "auto"
    """Use the skin segmenter (model selfie-multiclass) as evidence for contact; auto: if its weights can be had."""
    min_face: int = 48
    """Faces smaller than this (longer side, pixels) are too small to label."""
    min_visible: float = 0.7
    """Share of the 68 landmarks that must lie inside the photo; below this the face is cut."""
    max_people: int = 5
    """Photos with more faces of comparable size (over half the largest) are crowds or collages."""


class Analyser:
    """Detector and segmenter behind one call. own_process: it lives in a child, whose stderr and threads are its own."""

    def __init__(self, config: MediaPipeConfig, segmenter: Path | None, own_process: bool = True) -> None:
        import cv2

        if own_process:
            _silence_native_logs()
            cv2.setNumThreads(1)
        self.detector = MediaPipeAnnotator(config)
        self.segmenter = _load_segmenter(segmenter) if segmenter else None

    def analyse(self, image: NDArray[np.uint8]) -> tuple[Detections, NDArray[np.uint8] | None]:
        """Image (H, W, 3) uint8 RGB -> detections, and the class map (H, W) if a hand is near a face."""
        found = self.detector.annotate([image])[0]
        near = any(is_near(hand, face) for face in found.faces for hand in found.hands)
        skin = self.segmenter.segment(image) if near and self.segmenter else None
        return found, skin


class DetectStage:
    """Fills faces, hands and skin; turns away photos without a usable face or without any hand."""

    name = "detect"
    resources = Resources(num_cpus=1)

    def __init__(self, config: DetectConfig = DetectConfig()) -> None:
        self.config = config
        self._analyser: Isolated | None = None

    def setup(self) -> None:
        """Start the child process."""
        from handface.pipeline.contract.model_store import ModelStore

        config = resolved(self.config)
        segmenter = ModelStore().path(SEGMENTER) if config.segmenter == "on" else None
        self._records = mediapipe_records(self.config.mediapipe)
        if segmenter:
            self._records += (ModelStore().record(SEGMENTER),)
        self._analyser = Isolated(partial(Analyser, self.config.mediapipe, segmenter), self.config.isolation)

    def start_unit(self) -> None:
        """Nothing is remembered between photos."""

    def __call__(self, batch: Sequence[Record]) -> None:
        """Detect in each photo; a detector that hangs twice on one costs that photo only."""
        assert self._analyser is not None, "setup() comes first"
        for record in batch:
            try:
                found, skin = self._analyser.call("analyse", record.image)
            except (DetectorHung, DetectorError) as error:
                record.reject(Reason.DETECTOR_FAILED, str(error))
                continue
            record.annotators.extend(self._records)
            self._judge(record, found, skin)

    def _judge(self, record: Record, found: Detections, skin: NDArray[np.uint8] | None) -> None:
        assert record.image is not None
        height, width = record.image.shape[:2]
        if not found.faces:
            return record.reject(Reason.NO_FACE)
        largest = max(face.size for face in found.faces)
        people = sum(face.size > largest / 2 for face in found.faces)
        if people > self.config.max_people:
            return record.reject(Reason.TOO_MANY_PEOPLE, f"{people} faces of comparable size")
        large = [face for face in found.faces if face.mesh is not None and face.size >= self.config.min_face]
        if not large:
            return record.reject(Reason.FACE_TOO_SMALL, f"largest face {largest:.0f} px")
        whole = [face for face in large if visible_share(face, width, height) >= self.config.min_visible]
        if not whole:
            share = max(visible_share(face, width, height) for face in large)
            return record.reject(Reason.FACE_CUT, f"{share:.0%} of the landmarks inside the photo")
        if not found.hands:
            return record.reject(Reason.NO_HAND)
        record.faces, record.hands, record.skin = whole, list[Hand](found.hands), skin
        return None


def resolved(config: DetectConfig) -> DetectConfig:
    """The config with `auto` decided, fetching the weights if need be: a run must not change its mind half-way."""
    from handface.pipeline.contract.model_store import ModelError, ModelStore

    if config.segmenter != "auto":
        return config
    try:
        ModelStore().path(SEGMENTER)
    except ModelError as error:
        log.warning("going on without the skin segmenter, contact is judged by overlap and scale alone. %s", error)
        return replace(config, segmenter="off")
    return replace(config, segmenter="on")


def visible_share(face: Face, width: int, height: int) -> float:
    """Share of the 68 landmarks that lie inside the photo."""
    x, y = face.keypoints[:, 0], face.keypoints[:, 1]
    return float(((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)).mean())


def _silence_native_logs() -> None:
    """MediaPipe writes a dozen lines per start to the child's stderr; errors reach the parent through the pipe anyway."""
    if not os.environ.get("HANDFACE_DEBUG"):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _load_segmenter(path: Path) -> SelfieSegmenter:
    from handface.pipeline.annotators.selfie_segmenter import SelfieSegmenter

    return SelfieSegmenter(path)
