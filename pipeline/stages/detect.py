"""Faces and hands, and the skin map where a hand is at a face."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from handface.pipeline.annotators.analyser import Analyser, DetectorError
from handface.pipeline.annotators.detector import DetectorConfig, HandFaceDetector, detector_records
from handface.pipeline.annotators.mediapipe import MediaPipeConfig, MediaPipeGraphs, mediapipe_records
from handface.pipeline.annotators.networks.runtime import check_runtime
from handface.pipeline.annotators.selfie_segmenter import SEGMENTER, SelfieSegmenter
from handface.pipeline.contract.config import Count, Share
from handface.pipeline.contract.detections import Detections, Face, Hand
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.engine.libraries import PIXELS
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Resources, Stage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectConfig:
    """The detector and what counts as a usable face."""

    detector: DetectorConfig = field(default_factory=DetectorConfig)
    reference: MediaPipeConfig = field(default_factory=MediaPipeConfig)
    annotator: Literal["networks", "mediapipe"] = "networks"
    """networks: the detector above; mediapipe: the package's own graphs, one pass over the picture, as `reference` says."""
    segmenter: Literal["auto", "on", "off"] = "auto"
    """Use the skin segmenter (model selfie-multiclass) as evidence for contact; auto: if its weights can be had."""
    gpu_share: float = 0.25
    """Share of a GPU that a worker asks for if detector.runtime.device is one."""
    min_face: int = 48
    """Faces smaller than this (longer side, pixels) are too small to label."""
    min_visible: Share = 0.7
    """Share of the 68 landmarks that must lie inside the photo; below this the face is cut."""
    max_people: Count = 5
    """Photos with more faces of comparable size (over half the largest) are crowds or collages."""


class DetectStage(Stage):
    """Fills faces, hands and skin; turns away photos without a usable face or without any hand."""

    name = "detect"
    reads = ("image",)
    writes = ("faces", "hands", "skin", "annotators")
    version = 5  # float32 on every CPU

    def __init__(self, config: DetectConfig = DetectConfig()) -> None:
        self.config = config
        on_gpu = config.detector.runtime.device != "cpu"
        self.resources = Resources(num_cpus=1, num_gpus=config.gpu_share if on_gpu else 0)
        runtime = "mediapipe" if config.annotator == "mediapipe" else config.detector.runtime.name
        self.libraries = (*PIXELS, "ai-edge-litert" if runtime == "litert" else runtime)
        self._analyser: Analyser | None = None

    def setup(self) -> None:
        """Load the networks. Raises NetworkError or ModelError if one of them, or the runtime, cannot be had."""
        from handface.pipeline.contract.model_store import ModelStore

        config = resolved(self.config)
        self._analyser = build_analyser(config)
        self._records = (
            mediapipe_records(config.reference)
            if config.annotator == "mediapipe"
            else detector_records(config.detector)
        )
        if config.segmenter == "on":
            self._records += (ModelStore().record(SEGMENTER),)

    def __call__(self, batch: Sequence[Record]) -> None:
        """Detect in all photos of the batch together; one on which the detector fails costs itself only."""
        assert self._analyser is not None, "setup() comes first"
        answers = self._analyser.analyse([record.image for record in batch if record.image is not None])
        for record, answer in zip(batch, answers, strict=True):
            if isinstance(answer, DetectorError):
                record.reject(Reason.DETECTOR_FAILED, str(answer))
                continue
            record.annotators.extend(self._records)
            self._judge(record, answer.found, answer.skin)

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


def build_analyser(config: DetectConfig) -> Analyser:
    """The detector and segmenter of a config whose `auto` is decided."""
    check_runtime(config.detector.runtime)
    graphs = config.annotator == "mediapipe"
    detector = MediaPipeGraphs(config.reference) if graphs else HandFaceDetector(config.detector)
    return Analyser(detector, SelfieSegmenter(config.detector.runtime) if config.segmenter == "on" else None)


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
