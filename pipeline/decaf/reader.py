"""Reads one (split, subject) of Decaf: everything checked before the first frame, videos decoded in order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.arrays import BodyFileError
from handface.model.bodies.restricted_pickle import load_pickle, plain
from handface.pipeline.decaf.layout import (
    HAND_PARAMS,
    HEAD_PARAMS,
    SPLITS,
    DecafCamera,
    DecafError,
    DecafView,
    Pose3D,
    Sequence,
)
from handface.pipeline.decaf.video import FrameReader

log = logging.getLogger(__name__)

_CAMERA_KINDS = ("videos", "segmentations", "head_keys", "right_hand_keys", "head_bbs", "right_hand_bbs")


def find_sequences(root: Path, split: str, subjects: tuple[str, ...] = ()) -> list[Sequence]:
    """The subjects that a split has, in natural order; `subjects` narrows them. Raises DecafError if there is none or one lacks."""
    folder = root / split / "videos"
    found = sorted((p.name for p in folder.glob("[!.]*") if p.is_dir()), key=lambda name: (len(name), name))
    if split not in SPLITS or not found:
        raise DecafError(f"{folder}: no subject folders; give the folder that holds train/, test/ and assets/")
    if missing := sorted(set(subjects) - set(found)):
        raise DecafError(f"{folder}: no subject {missing[0]}; there are {', '.join(found)}")
    return [Sequence(root, split, name) for name in found if not subjects or name in subjects]


@dataclass(frozen=True)
class CameraArrays:
    """A camera's detections: head_keys (n, 68, 3), right_hand_keys (n, 21, 3), head_bbs and right_hand_bbs (n, 4)."""

    head_keys: NDArray[np.float32]
    right_hand_keys: NDArray[np.float32]
    head_bbs: NDArray[np.float64]
    right_hand_bbs: NDArray[np.float64]


class SubjectReader:
    """The annotations of one subject, all of n frames, and a way through its videos.

    cameras: those that have a calibration and every file, or the ones asked for.  Raises DecafError naming file and key.
    """

    def __init__(self, sequence: Sequence, cameras: tuple[str, ...] = ()) -> None:
        self.sequence = sequence
        self._params = _params(sequence.annotation("params", "params_smoothed.pkl"))
        self.frames = n = len(self._params)
        self.head_contact = _array(sequence.annotation("contacts", "contacts_head.npy"), (n, None))
        self.hand_contact = _array(sequence.annotation("contacts", "contacts_rh.npy"), (n, None))
        self.deformation = _array(
            sequence.annotation("deformations", "deforms.npy"), (n, self.head_contact.shape[1], 3)
        )
        opened = self._open_cameras(cameras)
        self.cameras = {name: camera for name, (camera, _) in opened.items()}
        self.arrays = {name: arrays for name, (_, arrays) in opened.items()}
        self._cuts = _cuts(sequence.cuts, n)
        vertices = self.head_contact.shape[1]
        self._still = _indices(sequence.root / "assets" / "FLAME_neck_idx.npy", vertices)
        self._untouched = _indices(sequence.root / "assets" / "neck_idx.npy", vertices)

    def pose(self, frame: int) -> Pose3D:
        """What all cameras share in a frame; the neck is masked out of deformation and contact, as the official readers do."""
        params = self._params[frame]
        deformation = np.array(self.deformation[frame], np.float32)
        deformation[self._still] = 0
        head_contact = self.head_contact[frame] != 0
        head_contact[self._untouched] = False
        return Pose3D(params["head"], params["right_hand"], head_contact, self.hand_contact[frame] != 0, deformation)

    def segment(self, frame: int) -> int:
        """Number of the stretch without cuts that a frame lies in, from 0."""
        return sum(frame >= after for _, after in self._cuts)

    def views(self, camera: str, start: int = 0) -> Iterator[DecafView]:
        """A camera's frames from `start` on, decoded in order. Raises DecafError naming the video that ends early."""
        kinds = ("videos", "segmentations")
        video, masks = (FrameReader(self.sequence.of_camera(kind, camera), self.frames) for kind in kinds)
        arrays = self.arrays[camera]
        with video, masks:
            for frame in range(start, self.frames):
                image, grey = video.at(frame), masks.at(frame)
                if image.shape != grey.shape:
                    raise DecafError(f"{masks.path}: frames are {grey.shape[:2]}, those of the video {image.shape[:2]}")
                size = image.shape[1], image.shape[0]
                yield DecafView(
                    image,
                    grey[..., 0] > 127,
                    _box(arrays.head_bbs[frame], size),
                    _box(arrays.right_hand_bbs[frame], size),
                    clean_keys(arrays.head_keys[frame]),
                    clean_keys(arrays.right_hand_keys[frame]),
                )

    def _open_cameras(self, wanted: tuple[str, ...]) -> dict[str, tuple[DecafCamera, CameraArrays]]:
        """The cameras that have a calibration and every file; others are left out with a warning, unless asked for by name."""
        path = self.sequence.annotation("cameras", "cameras.pkl")
        calibrated = {str(name): value for name, value in _mapping(path, _load(path)).items()}
        folder = self.sequence.of_camera("videos", "x").parent
        # macOS leaves a `._108.mp4` beside each file that it copies to other disks
        names = wanted or tuple(sorted(p.stem for p in folder.glob("*.mp4") if not p.name.startswith(".")))
        if not names:
            raise DecafError(f"{folder}: no videos")
        opened: dict[str, tuple[DecafCamera, CameraArrays]] = {}
        for name in names:
            try:
                opened[name] = _camera(path, calibrated, name), self._of_camera(name)
            except DecafError as error:
                if wanted:
                    raise
                log.warning("%s; camera %s of %s is left out", error, name, self.sequence.subject)
        if not opened:
            raise DecafError(
                f"{folder}: none of the {len(names)} cameras is complete; the warnings above say what lacks"
            )
        return opened

    def _of_camera(self, camera: str) -> CameraArrays:
        for kind in _CAMERA_KINDS:
            if not (path := self.sequence.of_camera(kind, camera)).is_file():
                raise DecafError(f"{path}: missing; camera {camera} needs {', '.join(_CAMERA_KINDS)}")
        for kind in ("videos", "segmentations"):
            FrameReader(self.sequence.of_camera(kind, camera), self.frames).close()
        shapes = {"head_keys": (68, 3), "right_hand_keys": (21, 3), "head_bbs": (4,), "right_hand_bbs": (4,)}
        arrays = {
            kind: _array(self.sequence.of_camera(kind, camera), (self.frames, *shape), finite=False)
            for kind, shape in shapes.items()
        }
        return CameraArrays(**arrays)


def _array(path: Path, shape: tuple[int | None, ...], finite: bool = True) -> NDArray[Any]:
    """A numeric .npy, memory-mapped; None fits any size. finite: NaN is an error and not a detection that failed."""
    if not path.is_file():
        raise DecafError(f"{path}: missing")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DecafError(f"{path}: not a readable array of numbers ({error})") from None
    if array.dtype.kind not in "biuf":
        raise DecafError(f"{path}: holds {array.dtype}, not numbers")
    if array.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, array.shape, strict=True)):
        expected = tuple("any" if size is None else size for size in shape)
        raise DecafError(f"{path}: shape {array.shape}, expected {expected} ({shape[0]} frames in params_smoothed.pkl)")
    if finite:
        for frame, row in enumerate(array):  # row by row: deforms.npy is larger than some memories
            if not np.isfinite(row).all():
                raise DecafError(f"{path}: frame {frame} has values that are not finite")
    return array


def _indices(path: Path, vertices: int) -> NDArray[Any]:
    """A list of vertices or a mask over them: both select."""
    array = np.array(_array(path, (None,)))
    mask = array.dtype == bool
    if (mask and len(array) != vertices) or (
        not mask and len(array) and not 0 <= array.min() <= array.max() < vertices
    ):
        raise DecafError(f"{path}: does not fit a head of {vertices} vertices")
    return array if mask else array.astype(np.int64)


def _load(path: Path) -> Any:
    try:
        return load_pickle(path.read_bytes(), path)
    except FileNotFoundError:
        raise DecafError(f"{path}: missing") from None
    except BodyFileError as error:
        raise DecafError(str(error)) from None


def _mapping(where: object, value: Any, key: str | None = None) -> Mapping[Any, Any]:
    if key is not None:
        if key not in value:
            raise DecafError(f"{where}: key {key!r} is missing")
        where, value = f"{where}: key {key!r}", value[key]
    if not isinstance(value, Mapping):
        raise DecafError(f"{where}: a {type(value).__name__}, expected a dict")
    return value


def _numbers(where: str, value: Mapping[Any, Any], key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    if key not in value:
        raise DecafError(f"{where}: key {key!r} is missing")
    try:
        array = np.asarray(plain(value[key], where), np.float64)
    except (TypeError, ValueError) as error:
        raise DecafError(f"{where}: key {key!r} holds no numbers ({error})") from None
    if array.size != np.prod(shape):
        raise DecafError(f"{where}: key {key!r} has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise DecafError(f"{where}: key {key!r} has values that are not finite")
    return array.reshape(shape)


def _params(path: Path) -> list[dict[str, dict[str, NDArray[np.float32]]]]:
    """Parameters by frame. Keys are ints or digits; they must be 0 .. n - 1."""
    records = _mapping(path, _load(path))
    try:
        by_frame = {int(key): value for key, value in records.items()}
    except (TypeError, ValueError):
        raise DecafError(f"{path}: keys are not frame numbers, e.g. {next(iter(records))!r}") from None
    if not by_frame or sorted(by_frame) != list(range(len(records))):
        raise DecafError(f"{path}: {len(records)} keys, but they are not the frames 0 to {len(records) - 1}")
    wanted = {"head": HEAD_PARAMS, "right_hand": HAND_PARAMS}
    frames = []
    for frame in range(len(by_frame)):
        record = _mapping(f"{path}: frame {frame}", by_frame[frame])
        bodies = {}
        for body, sizes in wanted.items():
            values = _mapping(f"{path}: frame {frame}", record, body)
            where = f"{path}: frame {frame}, {body}"
            bodies[body] = {k: _numbers(where, values, k, (size,)).astype(np.float32) for k, size in sizes.items()}
        frames.append(bodies)
    return frames


def _camera(path: Path, cameras: Mapping[str, Any], name: str) -> DecafCamera:
    record, where = _mapping(path, cameras, name), f"{path}: camera {name}"
    intrinsic = _numbers(where, record, "intrinsic", (3, 3))
    extrinsic = _numbers(where, record, "extrinsic", (4, 4))
    turn = extrinsic[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or not np.allclose(extrinsic[3], (0, 0, 0, 1)):
        raise DecafError(f"{where}: key 'extrinsic' is not a rotation and a translation above 0 0 0 1")
    extra = {key: value for key, value in record.items() if key not in ("intrinsic", "extrinsic")}
    return DecafCamera(intrinsic, extrinsic, extra)


def _cuts(path: Path, frames: int) -> list[tuple[int, int]]:
    cuts = _load(path)
    try:
        pairs = [(int(before), int(after)) for before, after in cuts]
    except (TypeError, ValueError) as error:
        raise DecafError(f"{path}: not a list of pairs of frames ({error})") from None
    for before, after in pairs:
        if not 0 <= before < after < frames:
            raise DecafError(f"{path}: cut ({before}, {after}) lies outside the {frames} frames")
    return pairs


def _box(row: NDArray[Any], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """None where detection failed: not finite, negative, or beyond the picture."""
    if not np.isfinite(row).all():
        return None
    x0, y0, x1, y1 = (int(value) for value in row)
    return (x0, y0, x1, y1) if 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1] else None


def clean_keys(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Keys with confidence 0 and zeros where a point was not found: not finite, negative, or no confidence."""
    keys = np.array(rows, np.float32)
    lost = ~np.isfinite(keys).all(1) | (keys[:, :2] < 0).any(1) | (keys[:, 2] <= 0)
    keys[lost] = 0
    keys[:, 2] = np.minimum(keys[:, 2], 1)
    return keys
