"""A second opinion on the 2D keypoints: a top-down network (RTMPose, RTMW, HRNet, ...) beside MediaPipe, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from handface.pipeline.annotators.base import KeypointAnnotator
from handface.pipeline.annotators.top_down import Layout
from handface.pipeline.contract.detections import Detections, Hand
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class KeypointsConfig:
    """The second network; none by default, since no package carries its weights (docs/mmpose.md)."""

    checkpoint: Path | None = None
    """An ONNX export, or with `mmpose_config` a checkpoint for mmpose itself."""
    mmpose_config: str | None = None
    """Run the checkpoint under mmpose with this config instead of onnxruntime; needs the mmpose extra."""
    layout: Layout = "wholebody"
    """Points the network gives: wholebody (133), hand (21), face68, or face106."""
    weights_digest: str = ""
    """Checksum of the checkpoint; filled in when a run starts, so that one run never uses two versions of it."""
    licence: str = "unknown"
    """Of the weights, kept with every sample."""
    keep: Literal["mediapipe", "second"] = "mediapipe"
    """Whose points become the labels; the other's only count as agreement."""


def settled(config: KeypointsConfig) -> KeypointsConfig:
    """The config with an absolute path, as workers sit in other folders, and the checksum of what they will load."""
    if config.checkpoint is None:
        return config
    from handface.pipeline.contract.model_store import files_sha256

    path = config.checkpoint.expanduser().absolute()
    return replace(config, checkpoint=path, weights_digest=files_sha256([path]))


class KeypointsStage(Stage):
    """Fills scores.keypoint_agreement {"NAME/face": a, "NAME/hand": a}; with keep=second replaces the keypoints too."""

    name = "keypoints"
    reads = ("image", "face", "person_hands", "scores")
    writes = ("face", "person_hands", "scores", "annotators")

    def __init__(self, config: KeypointsConfig = KeypointsConfig()) -> None:
        self.config = config
        self._network: KeypointAnnotator | None = None

    @property
    def off(self) -> bool:
        """Whether no second network was named."""
        return self.config.checkpoint is None

    def setup(self) -> None:
        """Load the network, if one was named."""
        config = self.config
        if config.checkpoint is None:
            return
        if config.mmpose_config is None:
            from handface.pipeline.annotators.onnx_pose import OnnxPose, OnnxPoseConfig

            self._network = OnnxPose(OnnxPoseConfig(config.checkpoint, config.layout, config.licence))
        else:
            from handface.pipeline.annotators.mmpose import MmposeAnnotator, MmposeConfig

            self._network = MmposeAnnotator(
                MmposeConfig(config.mmpose_config, config.checkpoint, config.layout, config.licence)
            )
        self._records = self._network.records()

    def __call__(self, batch: Sequence[Record]) -> None:
        """Ask the network about the chosen person of each photo."""
        if self._network is None:
            return
        for record in batch:
            assert record.image is not None and record.face is not None
            person = Detections((record.face,), tuple(record.person_hands))
            (second,) = self._network.annotate([record.image], [person])
            record.annotators.extend(self._records)
            self._compare(record, second)

    def _compare(self, record: Record, second: Detections) -> None:
        assert record.face is not None and record.scores is not None
        name, size, agreement = self._records[0].name, record.face.size, dict(record.scores.keypoint_agreement)
        first_hand = record.person_hands[0]
        face = second.faces[0] if second.faces else None
        hand = _same_hand(first_hand, second.hands)
        if face is not None:
            agreement[f"{name}/face"] = keypoint_agreement(record.face.keypoints, face.keypoints, size)
        if hand is not None:
            agreement[f"{name}/hand"] = keypoint_agreement(first_hand.keypoints, hand.keypoints, size)
        record.scores = replace(record.scores, keypoint_agreement=agreement)
        if self.config.keep == "second":
            if face is not None:
                record.face = replace(record.face, keypoints=face.keypoints)
            if hand is not None:
                record.person_hands[0] = replace(first_hand, keypoints=hand.keypoints)


def keypoint_agreement(a: NDArray[np.float32], b: NDArray[np.float32], size: float) -> float:
    """1 - mean distance of two (N, 3) sets of points in face sizes, weighted by the smaller confidence; within [0, 1]."""
    weights = np.minimum(a[:, 2], b[:, 2])
    if weights.sum() <= 0:
        return 0.0
    distance = np.average(np.linalg.norm(a[:, :2] - b[:, :2], axis=1), weights=weights)
    return round(float(np.clip(1 - distance / size, 0, 1)), 4)


def _same_hand(first: Hand, others: Sequence[Hand]) -> Hand | None:
    """The nearest of the second network's hands: networks confuse sides, so nearness decides, not the name."""
    centre = first.keypoints[:, :2].mean(0)
    return min(others, key=lambda hand: float(np.linalg.norm(hand.keypoints[:, :2].mean(0) - centre)), default=None)
