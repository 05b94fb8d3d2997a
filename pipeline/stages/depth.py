"""Depth at the keypoints: MediaPipe's own relative z always, and a value read from each dense map that was asked for.

A dense map is blurred where hand and face meet, which is where the keypoints are. So a value is the median over a small
disc, and only over pixels of the part the point belongs to; a face point under the hand has no value.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.annotators.base import DepthAnnotator, Face, Hand
from pipeline.annotators.mediapipe import FACE_68_FROM_478
from pipeline.contact import face_outline, face_scale, hand_mask
from pipeline.record import Record, Resources
from pipeline.sample import DEPTH_POINTS, FACE_KEYPOINTS, KeypointDepth

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DISC = 0.012  # radius relative to the crop's side
_MIN_PIXELS = 3
_MIN_CONFIDENCE = 0.2


@dataclass(frozen=True)
class DepthConfig:
    """Which dense depth networks look at the crops; none by default, since the free one does not resolve hand and face."""

    depth_anything: str | None = None
    """Checkpoint folder or hub id of a Depth Anything (V1 or V2, relative or metric)."""
    side: int = 518
    """Shorter side of Depth Anything's input, a multiple of 14; 392 costs half."""
    fastdepth: bool = False
    """Run FastDepth too (model fastdepth of the model store)."""
    device: str = "cpu"
    """Where Depth Anything runs, e.g. cuda; then each depth worker takes a GPU of the cluster."""


class DepthStage:
    """Fills keypoint_depth and depth_maps from the crop."""

    name = "depth"

    def __init__(self, config: DepthConfig = DepthConfig()) -> None:
        self.config = config
        self.resources = Resources(num_cpus=1, num_gpus=0 if config.device == "cpu" else 1)

    def setup(self) -> None:
        """Load the networks."""
        self._annotators: list[DepthAnnotator] = []
        if self.config.depth_anything:
            from pipeline.annotators.depth_anything import DepthAnything

            config = self.config
            self._annotators.append(DepthAnything(self.config.depth_anything, config.side, config.device))
        if self.config.fastdepth:
            from pipeline.annotators.fastdepth import FastDepth

            self._annotators.append(FastDepth())
        self._records = tuple(record for annotator in self._annotators for record in annotator.records())

    def start_unit(self) -> None:
        """Nothing is remembered between photos."""

    def __call__(self, batch: Sequence[Record]) -> None:
        """Run each network on the whole batch, then read the keypoints."""
        for record in batch:
            assert record.face is not None and record.affine is not None
            if (relative := mediapipe_depth(record.face, record.person_hands[0], record.affine)) is not None:
                record.keypoint_depth["mediapipe"] = relative
            record.annotators.extend(self._records)
        for annotator in self._annotators:
            maps = annotator.annotate([record.crop for record in batch if record.crop is not None])
            for record, depth in zip(batch, maps, strict=True):
                assert record.face is not None and record.affine is not None
                record.depth_maps[annotator.name] = depth
                values = keypoint_depth(depth, record.face, record.person_hands, record.affine)
                record.keypoint_depth[annotator.name] = KeypointDepth(values, annotator.kind)


def mediapipe_depth(face: Face, hand: Hand, affine: NDArray[np.float64]) -> KeypointDepth | None:
    """MediaPipe's relative z in crop pixels, nearer is smaller: face and hand each in a frame of their own.

    affine: (3, 3) crop pixel -> photo pixel. None where the detector gave neither; a part without z is invalid.
    """
    if face.mesh is None and hand.z is None:
        return None
    values = np.zeros((DEPTH_POINTS, 2), np.float32)
    scale = 1 / affine[0, 0]
    if face.mesh is not None:
        values[:FACE_KEYPOINTS] = np.column_stack(
            [face.mesh[list(FACE_68_FROM_478), 2] * scale, np.ones(FACE_KEYPOINTS)]
        )
    if hand.z is not None:
        values[FACE_KEYPOINTS:] = np.column_stack([hand.z * scale, np.ones(len(hand.z))])
    return KeypointDepth(values, "affine-per-part")


def keypoint_depth(
    depth: NDArray[np.float32], face: Face, hands: Sequence[Hand], affine: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Depth map (S, S) over the crop -> (89, 2) value and validity at the 68 face points and the 21 of hand 0.

    Points outside the crop, unsure points, and face points under any hand are invalid (0, 0).
    """
    scale = face_scale(face) / affine[0, 0]  # crop pixels per metre
    to_crop = np.linalg.inv(affine).astype(np.float64)
    face_points, hand_points = _to_crop(face.keypoints, to_crop), _to_crop(hands[0].keypoints, to_crop)
    hidden = np.zeros(depth.shape, np.uint8)
    for hand in hands:
        hidden |= _drawn(hand, to_crop, scale, depth.shape)
    outline = _filled(_to_crop(face_outline(face), to_crop), depth.shape)
    on_face = (outline > 0) & (hidden == 0)
    on_hand = _drawn(hands[0], to_crop, scale, depth.shape) > 0
    return np.concatenate([_sampled(depth, face_points, on_face), _sampled(depth, hand_points, on_hand)])


def encode_depth_png(depth: NDArray[np.float32]) -> bytes:
    """(H, W) float32 -> 16-bit PNG; value = offset + scale * pixel, both in the PNG's text fields `scale` and `offset`."""
    from PIL import Image, PngImagePlugin

    low, high = float(np.nanmin(depth)), float(np.nanmax(depth))
    scale = (high - low) / 65535 or 1.0
    pixels = np.clip(np.nan_to_num((depth - low) / scale), 0, 65535).round().astype(np.uint16)
    text = PngImagePlugin.PngInfo()
    text.add_text("scale", repr(scale))
    text.add_text("offset", repr(low))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", pnginfo=text)
    return file.getvalue()


def decode_depth_png(data: bytes) -> NDArray[np.float32]:
    """The inverse of `encode_depth_png`, to half a step. Raises ValueError if the text fields are missing."""
    from PIL import Image

    picture = Image.open(io.BytesIO(data), formats=["PNG"])
    try:
        scale, offset = float(picture.info["scale"]), float(picture.info["offset"])
    except KeyError as error:
        raise ValueError(f"the depth PNG has no text field {error}") from error
    return (np.asarray(picture, np.float64) * scale + offset).astype(np.float32)


def _to_crop(points: NDArray[np.float32], to_crop: NDArray[np.float64]) -> NDArray[np.float32]:
    """(N, 2+) photo pixels -> the same with x, y in crop pixels."""
    moved = np.array(points, np.float32)
    moved[:, :2] = points[:, :2] @ to_crop[:2, :2].T + to_crop[:2, 2]
    return moved


def _drawn(hand: Hand, to_crop: NDArray[np.float64], scale: float, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    from dataclasses import replace

    moved = replace(hand, keypoints=_to_crop(hand.keypoints, to_crop))
    return hand_mask(moved, scale, (shape[0], shape[1]), np.zeros(2))


def _filled(polygon: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    import cv2

    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(polygon).astype(np.int32)], 1)
    return mask


def _sampled(depth: NDArray[np.float32], points: NDArray[np.float32], part: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(N, 3) points -> (N, 2): the median of the map over a disc around each, within the part."""
    radius = max(2, round(_DISC * max(depth.shape)))
    offsets = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1).T
    offsets = offsets[(offsets**2).sum(1) <= radius**2]
    values = np.zeros((len(points), 2), np.float32)
    for index, (x, y, confidence) in enumerate(points):
        rows, columns = (offsets + (round(float(y)), round(float(x)))).T
        inside = (rows >= 0) & (rows < depth.shape[0]) & (columns >= 0) & (columns < depth.shape[1])
        centre_seen = 0 <= round(float(y)) < depth.shape[0] and 0 <= round(float(x)) < depth.shape[1]
        rows, columns = rows[inside], columns[inside]
        found = depth[rows, columns][part[rows, columns]]
        found = found[np.isfinite(found)]
        if centre_seen and confidence >= _MIN_CONFIDENCE and len(found) >= _MIN_PIXELS:
            values[index] = np.median(found), 1
    return values
