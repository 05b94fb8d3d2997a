"""One sample: bytes of its members -> picture and labels of the network's size, mirrored and varied."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from handface.pipeline.contract.found_points import FoundPoints
from handface.pipeline.contract.sample import (
    DEPTH_KINDS,
    DEPTH_POINTS,
    FACE_KEYPOINTS,
    HAND_KEYPOINTS,
    LEFT,
    Labels,
    SampleError,
    decode_labels,
)
from handface.trainers.data.augment.background import Backgrounds, put_behind
from handface.trainers.data.augment.colour import vary_colour
from handface.trainers.data.augment.geometry import (
    flip,
    mirror_face,
    mirror_points,
    move_keypoints,
    resize,
    scale_pixels,
    similarity,
)
from handface.trainers.data.bodies import BodyPart
from handface.trainers.data.config import AugmentConfig, DataConfig
from handface.trainers.data.scene import SceneLabels, read_scene

_AUGMENT_SEED = 2
_ENLARGE = 1.2  # a picture decoded at a half may be enlarged this much; linear interpolation hides it


@dataclass(frozen=True)
class Draw:
    """The variation of one picture. angle: radians.  scale: zoom.  shift: pixels.  rng: for what is drawn while it is made."""

    angle: float
    scale: float
    shift: tuple[float, float]
    flip: bool
    background: bool
    colour: bool
    rng: np.random.Generator


def draw(config: AugmentConfig, size: int, seed: int, position: int) -> Draw:
    """The variation of the picture at a position of the stream, by (seed, position) alone: who decodes it does not matter."""
    rng = np.random.default_rng([seed, _AUGMENT_SEED, position])
    turn, zoom, right, down, mirrored, behind, coloured = rng.random(7)
    reach = 2 * config.translation * size
    return Draw(
        angle=float(np.radians(config.rotation) * (2 * turn - 1)),
        scale=float(1 + config.scale * (2 * zoom - 1)),
        shift=(float(reach * (right - 0.5)), float(reach * (down - 0.5))),
        flip=bool(mirrored < config.flip),
        background=config.backgrounds is not None and bool(behind < config.background),
        colour=bool(coloured < config.colour) and bool(config.colour_operations),
        rng=rng,
    )


@dataclass(frozen=True)
class Decoded:
    """One sample, ready but for what `collate` does for the whole batch: mirroring and turning body parameters.

    image: (S, S, 3) uint8 RGB.  face: (68, 3), hand: (21, 3).  points: (89, 3) that a network is given.  visibility: (89,).  depth: (89, 2), depth_kind: index or -1.
    mirrored, angle: what happened to the picture.  scene: 3D labels.
    remarks: labels that had to be left out, and why.
    """

    key: str
    origin: int
    image: NDArray[np.uint8]
    face: NDArray[np.float32]
    hand: NDArray[np.float32]
    points: NDArray[np.float32]
    visibility: NDArray[np.float32]
    depth: NDArray[np.float32]
    depth_kind: int
    mirrored: bool
    angle: float
    scene: SceneLabels = SceneLabels()
    remarks: tuple[str, ...] = ()


class SampleDecoder:
    """Decodes samples of one configuration; the bodies and the list of backgrounds are opened once."""

    def __init__(self, config: DataConfig) -> None:
        """Raises BodyFileError or DataError."""
        self.config = config
        self.hand = BodyPart("hand", config.hand_body or "free-hand")
        self.head = BodyPart("head", config.head_body or "free-head")
        folder = config.augment.backgrounds
        self.backgrounds = Backgrounds(folder) if folder is not None else None
        self.found = [FoundPoints.read(dataset.found) for dataset in config.datasets]

    def draw(self, position: int) -> Draw:
        """The variation at a position."""
        return draw(self.config.augment, self.config.image_size, self.config.seed, position)

    def __call__(self, key: str, origin: int, members: Mapping[str, bytes], drawn: Draw) -> Decoded:
        """Decode one sample. members: {extension: bytes}.  Raises SampleError saying what is wrong with it."""
        for name in ("jpg", "safetensors"):
            if name not in members:
                raise SampleError(f"member .{name} is missing")
        labels = decode_labels(members["safetensors"])
        has_hand = labels.hand_side is not None and len(labels.hand_side) > 0
        mirrored = bool(labels.hand_side[0] == LEFT) if has_hand else drawn.flip  # type: ignore[index]
        stored = _picture_side(members["jpg"])
        frame = _Frame(stored, self.config.image_size, mirrored, drawn)
        image = self._picture(members, frame, drawn)
        face, hand, visibility, depth, kind = _two_dimensional(labels, frame, self.config.depth_sources)
        points = self._found(key, origin, frame, drawn)
        points = np.concatenate([face, hand]) if points is None else points
        scene, remarks = SceneLabels(), tuple[str, ...]()
        if self._takes_3d(labels, origin, drawn):
            scene, remarks = read_scene(labels, self.hand, self.head, mirrored)
        return Decoded(
            key, origin, image, face, hand, points, visibility, depth, kind, mirrored, drawn.angle, scene, remarks
        )

    def _found(self, key: str, origin: int, frame: _Frame, drawn: Draw) -> NDArray[np.float32] | None:
        """The detector's points in the varied picture, (89, 3), if there are any and this time they are given."""
        points = self.found[origin].of(key)
        if points is None or drawn.rng.random() >= self.config.augment.found:
            return None
        _require_finite(points)
        if frame.mirrored:
            points = np.concatenate([mirror_face(points[:FACE_KEYPOINTS]), points[FACE_KEYPOINTS:]])
        return move_keypoints(points, frame.matrix)

    def _takes_3d(self, labels: Labels, origin: int, drawn: Draw) -> bool:
        """Whether this time the sample's 3D labels are used: a fitted one as often as its quality says, which weighs it by quality."""
        if not self.config.datasets[origin].takes_3d(labels):
            return False
        return labels.origin_3d != "fitted" or bool(drawn.rng.random() < (labels.fit_quality or 0.0))

    def _picture(self, members: Mapping[str, bytes], frame: _Frame, drawn: Draw) -> NDArray[np.uint8]:
        """The varied picture, (S, S, 3) uint8."""
        image = np.asarray(cv2.cvtColor(frame.cut(_decode_jpeg(members["jpg"], frame)), cv2.COLOR_RGBA2RGB), np.uint8)
        if drawn.background and self.backgrounds is not None and "mask.png" in members:
            mask = frame.cut(_decode_mask(members["mask.png"], frame.stored))
            image = put_behind(image, mask, self.backgrounds.draw(drawn.rng, frame.size))
        if drawn.colour:
            operations = self.config.augment.colour_operations
            image = vary_colour(image, operations[int(drawn.rng.integers(len(operations)))], drawn.rng)
        return image


class _Frame:
    """Where the pixels of the stored crop (side `stored`) go in the network's input (side `size`)."""

    def __init__(self, stored: int, size: int, mirrored: bool, drawn: Draw) -> None:
        self.stored, self.size, self.mirrored = stored, size, mirrored
        self.zoom = drawn.scale * size / stored
        placed = resize(stored, size)
        if mirrored:
            placed = flip(size) @ placed
        self.matrix = similarity(size, drawn.angle, drawn.scale, drawn.shift) @ placed  # (3, 3)

    @cached_property
    def decoded_side(self) -> int:
        """Least side to decode at: libjpeg's halves are cheap, its odd fractions dearer than the whole."""
        side = self.stored
        while side // 2 * _ENLARGE >= self.stored * self.zoom:
            side //= 2
        return side

    def cut(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A crop, decoded at any scale, (D, D[, C]) -> (S, S[, C]); 0 outside."""
        # libjpeg decodes at eighths and rounds the side up: an odd one's half has pixels of exactly two
        eighths = next(m for m in range(1, 9) if -(-self.stored * m // 8) >= len(image))
        matrix = self.matrix @ scale_pixels(8 / eighths)
        return np.asarray(cv2.warpAffine(image, matrix[:2], (self.size, self.size), flags=cv2.INTER_LINEAR), np.uint8)


def _two_dimensional(
    labels: Labels, frame: _Frame, sources: tuple[str, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], int]:
    """face (68, 3), hand (21, 3), visibility (89,), depth (89, 2) and the index of its kind, in the varied picture."""
    face, hand = labels.face_keypoints_2d, labels.hand_keypoints_2d
    face = np.zeros((FACE_KEYPOINTS, 3), np.float32) if face is None else face
    hand = np.zeros((1, HAND_KEYPOINTS, 3), np.float32) if hand is None or len(hand) == 0 else hand
    _require_finite(face, hand[0])
    seen = labels.keypoint_visibility
    visibility = np.ones(DEPTH_POINTS, np.float32) if seen is None else seen.astype(np.float32)
    depth, kind = _depth(labels, sources)
    if frame.mirrored:
        face, visibility, depth = mirror_face(face), mirror_points(visibility), mirror_points(depth)  # type: ignore[assignment]
    face, first = move_keypoints(face, frame.matrix), move_keypoints(hand[0], frame.matrix)
    points = np.concatenate([face, first])
    outside = (points[:, 2] > 0) & ((points[:, :2] < -0.5) | (points[:, :2] > frame.size - 0.5)).any(1)
    return face, first, np.where(outside, np.float32(0), visibility), depth, kind


def _depth(labels: Labels, sources: tuple[str, ...]) -> tuple[NDArray[np.float32], int]:
    """Values and validity (89, 2) of the preferred source, and the index of its kind; zeros and -1 without any."""
    if not labels.keypoint_depth:
        return np.zeros((DEPTH_POINTS, 2), np.float32), -1
    known = sorted(labels.keypoint_depth)
    source = next((name for name in sources if name in labels.keypoint_depth), known[0])
    depth = labels.keypoint_depth[source]
    valid = np.isfinite(depth.values).all(1, keepdims=True) & (depth.values[:, 1:] > 0)
    return np.where(valid, depth.values, 0).astype(np.float32), DEPTH_KINDS.index(depth.kind)


def _require_finite(*arrays: NDArray[np.floating]) -> None:
    if not all(math.isfinite(array.sum()) for array in arrays):  # a sum is not finite where a term is not
        raise SampleError("labels hold numbers that are not finite")


def _picture_side(data: bytes) -> int:
    """The side of a JPEG, from its header. Raises SampleError if it is not a square JPEG."""
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise SampleError(f".jpg: not a readable JPEG ({error})") from error
    if height != width:
        raise SampleError(f".jpg: {width} x {height} pixels; crops are square")
    return int(height)


def _decode_jpeg(data: bytes, frame: _Frame) -> NDArray[np.uint8]:
    """(D, D, 4) RGB and a filler, as OpenCV warps four channels twice as fast as three, at the cheapest scale that is still
    sharp enough. Raises SampleError.
    """
    try:
        least = frame.decoded_side
        return np.asarray(simplejpeg.decode_jpeg(data, "RGBX", min_height=least, min_width=least))
    except ValueError as error:
        raise SampleError(f".jpg: broken ({error})") from error


def _decode_mask(data: bytes, side: int) -> NDArray[np.uint8]:
    """(D, D) grey. Raises SampleError."""
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None or mask.shape != (side, side):
        raise SampleError(f".mask.png: not a picture of {side} x {side}")
    return np.asarray(mask, np.uint8)
