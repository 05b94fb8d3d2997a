"""Depth at the 89 keypoints of the crop: sampled from dense maps, and MediaPipe's own relative z. Units: docs/depth.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from handface.pipeline.annotators.base import DepthAnnotator
from handface.pipeline.annotators.landmarks import FACE_68_FROM_478, face_outline
from handface.pipeline.annotators.selfie_segmenter import BODY_SKIN, FACE_SKIN
from handface.pipeline.annotators.silhouette import face_scale, hand_mask
from handface.pipeline.contract.config import PatchSide, Share
from handface.pipeline.contract.detections import Face, Hand
from handface.pipeline.contract.images.affine import move_points
from handface.pipeline.contract.sample import DEPTH_POINTS, FACE_KEYPOINTS, KeypointDepth
from handface.pipeline.engine.libraries import PIXELS
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Resources, Stage

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEDIAPIPE = "mediapipe"


@dataclass(frozen=True)
class DepthConfig:
    """Which dense networks look at the crops, none by default since the free one does not resolve hand and face; and sampling."""

    depth_anything: str | None = None
    """Checkpoint folder or hub id of a Depth Anything (V1 or V2, relative or metric)."""
    weights_digest: str = ""
    """Checksum of a checkpoint on this machine; filled in when a run starts, so that one run never uses two versions of it."""
    side: PatchSide | None = None
    """Side of Depth Anything's input, a multiple of 14; None is the checkpoint's own. 392 costs half of 518."""
    backend: Literal["auto", "torch", "openvino"] = "auto"
    """How Depth Anything runs on a CPU: openvino in bfloat16 where it is installed (auto), or torch in float32."""
    device: str = "cpu"
    """Where Depth Anything runs, e.g. cuda; then each depth worker takes a GPU of the cluster."""
    fastdepth: bool = False
    """Run FastDepth too (model fastdepth of the model store)."""
    radius: Share = 0.012
    """Radius of the disc around a keypoint whose median is taken, relative to the crop's side."""
    min_share: Share = 0.15
    """Share of the disc that must lie inside the keypoint's own part."""
    min_confidence: Share = 0.2
    """Keypoints less sure than this get no depth."""


@dataclass(frozen=True)
class PartMasks:
    """Where each part is seen in the crop. face: (S, S) bool, without what the hand hides.  hand: (S, S) bool."""

    face: NDArray[np.bool_]
    hand: NDArray[np.bool_]


def settled(config: DepthConfig) -> DepthConfig:
    """The config with an absolute path, as workers sit in other folders, and the checksum of what they will load; a hub id stays."""
    if config.depth_anything is None or not (path := Path(config.depth_anything).expanduser().absolute()).exists():
        return config
    from handface.pipeline.contract.model_store import files_sha256

    files = sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else [path]
    return replace(config, depth_anything=str(path), weights_digest=files_sha256(files))


class DepthStage(Stage):
    """Fills record.depth_maps with dense maps over the crop and record.keypoint_depth with values at the 89 points.

    Comes after the crop. `load` makes the annotators in the process that runs them.
    """

    name = "depth"
    version = 2  # the record says how the picture was brought to the network's size
    reads = ("crop", "affine", "face", "person_hands", "skin")
    writes = ("depth_maps", "keypoint_depth", "annotators")

    def __init__(
        self, config: DepthConfig = DepthConfig(), load: Callable[[], Sequence[DepthAnnotator]] | None = None
    ) -> None:
        self.config = config
        self.resources = Resources(num_cpus=1, num_gpus=0 if config.device == "cpu" else 1)
        self._named = load is not None or config.depth_anything is not None or config.fastdepth
        if config.depth_anything is not None or config.fastdepth:
            self.libraries = (*PIXELS, "onnxruntime", "openvino", "torch")
        self._load = load or partial(load_annotators, config)
        self._annotators: Sequence[DepthAnnotator] = ()

    @property
    def off(self) -> bool:
        """Whether no network was named; the relative depth that the detector gives is always there."""
        return not self._named

    def setup(self) -> None:
        """Load the networks."""
        self._annotators = self._load()
        self._records = [record for annotator in self._annotators for record in annotator.records()]

    def __call__(self, batch: Sequence[Record]) -> None:
        """Dense maps for the whole batch, then the keypoints of each record."""
        crops = [record.crop for record in batch if record.crop is not None]
        assert len(crops) == len(batch), "the crop stage comes first"
        for annotator in self._annotators:
            for record, depth in zip(batch, annotator.annotate(crops), strict=True):
                record.depth_maps[annotator.name] = depth
        for record in batch:
            self._sample(record)
            record.annotators.extend(self._records)

    def _sample(self, record: Record) -> None:
        assert record.face is not None and record.crop is not None and record.affine is not None
        to_crop = np.linalg.inv(record.affine)
        maps = [record.depth_maps[annotator.name] for annotator in self._annotators]
        sampled = person_depth(maps, record.face, record.person_hands, record.skin, to_crop, self.config)
        for annotator, values in zip(self._annotators, sampled, strict=True):
            record.keypoint_depth[annotator.name] = KeypointDepth(values, annotator.kind)
        own = relative_depth(record.face, record.person_hands[0], float(to_crop[0, 0]))
        if own is not None:
            record.keypoint_depth[MEDIAPIPE] = KeypointDepth(own, "affine-per-part")


def load_annotators(config: DepthConfig) -> list[DepthAnnotator]:
    """The configured networks, the better one first. Raises what their constructors raise."""
    annotators: list[DepthAnnotator] = []
    if config.depth_anything:
        from handface.pipeline.annotators.depth_anything import DepthAnything, DepthAnythingConfig

        chosen = DepthAnythingConfig(
            config.depth_anything, backend=config.backend, side=config.side, device=config.device
        )
        annotators.append(DepthAnything(chosen))
    if config.fastdepth:
        from handface.pipeline.annotators.fastdepth import FastDepth

        annotators.append(FastDepth())
    return annotators


def person_depth(
    maps: Sequence[NDArray[np.float32]],
    face: Face,
    hands: Sequence[Hand],
    skin: NDArray[np.uint8] | None,
    to_crop: NDArray[np.float64],
    config: DepthConfig = DepthConfig(),
) -> list[NDArray[np.float32]]:
    """Maps (S, S) of a person's crop, each at the 89 points of the face and of hand 0 -> (89, 2) value and validity.

    face, hands: of the person, in pixels of the photo.  skin: (H, W) class map of the photo, or None.  to_crop: (3, 3) photo -> crop pixels.
    """
    if not maps:
        return []
    points = move_points(face.keypoints, to_crop), move_points(hands[0].keypoints, to_crop)
    height, width = maps[0].shape
    masks = part_masks(face, hands, skin, (height, width), to_crop)
    return [keypoint_depth(depth, *points, masks, config) for depth in maps]


def keypoint_depth(
    depth: NDArray[np.float32],
    face_68: NDArray[np.float32],
    hand_21: NDArray[np.float32],
    masks: PartMasks,
    config: DepthConfig = DepthConfig(),
) -> NDArray[np.float32]:
    """A (S, S) map at (68, 3) face and (21, 3) hand keypoints -> (89, 2) float32 value and validity 0 or 1.

    The value is the median over the part of a small disc that lies inside the keypoint's own part, so that no sample
    comes from across the silhouette. A point has no value outside the crop, below the confidence limit, where too little
    of the disc is inside the part, and, on the face, where the hand hides it.
    """
    values = np.zeros((DEPTH_POINTS, 2), np.float32)
    side = depth.shape[0]
    radius = max(1.5, config.radius * side)
    reach = int(radius)
    dy, dx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.stack([dy, dx], -1)[dy**2 + dx**2 <= radius**2]  # (N, 2) row and column offsets
    for index, (x, y, confidence) in enumerate(np.concatenate([face_68, hand_21])):
        if not (confidence >= config.min_confidence and 0 <= x <= side - 1 and 0 <= y <= side - 1):
            continue
        row, column = round(float(y)), round(float(x))
        on_face = index < FACE_KEYPOINTS
        if on_face and masks.hand[row, column]:
            continue
        rows, columns = (disc + (row, column)).T
        inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
        rows, columns = rows[inside], columns[inside]
        samples = depth[rows, columns][(masks.face if on_face else masks.hand)[rows, columns]]
        samples = samples[np.isfinite(samples)]
        if len(samples) >= max(1, config.min_share * len(disc)):
            values[index] = np.median(samples), 1
    return values


def part_masks(
    face: Face,
    hands: Sequence[Hand],
    skin: NDArray[np.uint8] | None,
    shape: tuple[int, int],
    to_crop: NDArray[np.float64],
) -> PartMasks:
    """Face and hand 0 in a crop of `shape`: the drawn hand, and the face's outline without any of the person's hands.

    Where the skin segmenter ran, the hand keeps only body skin and what the segmenter calls face, since it confuses the
    two where they touch, and the face loses background, clothes and body skin.  The rest is as in `person_depth`.
    """
    import cv2

    scale = face_scale(face) * float(to_crop[0, 0])  # crop pixels per metre at the face's distance
    drawn = [hand_mask(_moved(hand, to_crop), scale, shape, np.zeros(2)) > 0 for hand in hands]
    outline = np.zeros(shape, np.uint8)
    polygon = move_points(face_outline(face), to_crop)
    cv2.fillPoly(outline, [np.round(polygon).astype(np.int32)], 1)
    oval, hand = (outline > 0) & ~np.logical_or.reduce(drawn), drawn[0]
    if skin is not None:
        classes = cv2.warpPerspective(skin, to_crop, shape[::-1], flags=cv2.INTER_NEAREST)
        on_skin = hand & ((classes == BODY_SKIN) | (classes == FACE_SKIN))
        hand = on_skin if on_skin.sum() >= 0.5 * hand.sum() else hand  # gloves, or a segmenter that missed the hand
        on_face = oval & ~np.isin(classes, (0, BODY_SKIN, 4))
        oval = on_face if on_face.sum() >= 0.5 * oval.sum() else oval
    return PartMasks(oval, hand)


def relative_depth(face: Face, hand: Hand, scale: float) -> NDArray[np.float32] | None:
    """MediaPipe's z at the 89 points in crop pixels, smaller is nearer -> (89, 2), or None where neither part has one.

    Face and hand have their own zero (head centre, wrist). The networks complete hidden points from what they know of faces
    and hands, so hidden points are valid here.  scale: crop pixels per photo pixel.
    """
    values = np.zeros((DEPTH_POINTS, 2), np.float32)
    if face.mesh is not None:
        values[:FACE_KEYPOINTS] = np.column_stack(
            [face.mesh[list(FACE_68_FROM_478), 2] * scale, np.ones(FACE_KEYPOINTS)]
        )
    if hand.z is not None:
        values[FACE_KEYPOINTS:] = np.column_stack([hand.z * scale, np.ones(len(hand.z))])
    return values if values[:, 1].any() else None


def _moved(hand: Hand, to_crop: NDArray[np.float64]) -> Hand:
    return replace(hand, keypoints=move_points(hand.keypoints, to_crop))
