"""Writes sequences in Decaf's layout, frame by frame, from anything that has typed frames."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.decaf.layout import NO_BOX, DecafCamera, DecafError, DecafView, Pose3D, Sequence

_CAMERA_ARRAYS = ("head_keys", "right_hand_keys", "head_bbs", "right_hand_bbs")


def write_assets(
    root: Path,
    flip: NDArray[np.integer[Any]],
    neck: NDArray[np.integer[Any]],
    backgrounds: Mapping[str, bytes],
    stiffness: NDArray[np.floating[Any]] | None = None,
) -> None:
    """The files that all subjects share. flip: (Vf,) mirror correspondences of the head.  neck: vertices that neither deform nor
    touch.  backgrounds: encoded images by file name.  stiffness: (Vf,) of the face, which DICE keeps beside the dataset.
    """
    folder = root / "assets"
    (folder / "aug_back_ground").mkdir(parents=True, exist_ok=True)
    np.save(folder / "left_right_face_corresps.npy", flip)
    for name in ("FLAME_neck_idx.npy", "neck_idx.npy"):
        np.save(folder / name, neck)
    if stiffness is not None:
        np.save(folder / "stiffness_final.npy", stiffness)
    for name, data in backgrounds.items():
        (folder / "aug_back_ground" / name).write_bytes(data)


class SequenceWriter:
    """One (split, subject): `add` every frame in order, then leave the `with` block, which writes the arrays.

    cameras: by three-digit id.  flip: (Vf,) as in `write_assets`.  A frame needs a view from every camera.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        subject: str,
        cameras: Mapping[str, DecafCamera],
        flip: NDArray[Any],
        fps: float = 30.0,
    ) -> None:
        self.sequence, self.cameras, self.flip, self.fps = Sequence(root, split, subject), dict(cameras), flip, fps
        self._poses: list[Pose3D] = []
        self._canonical: list[tuple[NDArray[Any], NDArray[Any]]] = []
        self._rows: dict[tuple[str, str], list[Any]] = {(k, c): [] for k in _CAMERA_ARRAYS for c in self.cameras}
        self._videos: dict[tuple[str, str], Any] = {}
        self._cuts: list[tuple[int, int]] = []

    def __enter__(self) -> SequenceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for video in self._videos.values():
            video.release()
        if kind is None:
            self._finish()

    def cut(self) -> None:
        """The next frame does not continue the one before."""
        self._cuts.append((len(self._poses) - 1, len(self._poses)))

    def add(
        self,
        pose: Pose3D,
        views: Mapping[str, DecafView],
        head_rigid: NDArray[np.float64],
        hand_keypoints: NDArray[np.float64],
    ) -> None:
        """One frame. head_rigid: (4, 4) canonical head -> world.  hand_keypoints: (21, 3) world, tips shortened.

        Raises DecafError if a camera has no view.
        """
        if missing := sorted(set(self.cameras) - set(views)):
            raise DecafError(f"frame {len(self._poses)} of {self.sequence.subject} has no view of camera {missing[0]}")
        for camera in self.cameras:
            view = views[camera]
            self._film("videos", camera, view.image[..., ::-1])
            self._film("segmentations", camera, np.repeat(view.mask[..., None].astype(np.uint8) * 255, 3, 2))
            rows = (view.head_keys, view.hand_keys, view.head_box or NO_BOX, view.hand_box or NO_BOX)
            for kind, row in zip(_CAMERA_ARRAYS, rows, strict=True):
                self._rows[kind, camera].append(np.asarray(row))
        self._poses.append(pose)
        self._canonical.append((head_rigid, (hand_keypoints - head_rigid[:3, 3]) @ head_rigid[:3, :3]))

    def _film(self, kind: str, camera: str, frame: NDArray[np.uint8]) -> None:
        import cv2

        if (kind, camera) not in self._videos:
            path = self.sequence.of_camera(kind, camera)
            path.parent.mkdir(parents=True, exist_ok=True)
            height, width = frame.shape[:2]
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, (width, height))
            if not writer.isOpened():
                raise DecafError(f"{path}: this OpenCV cannot write mp4 videos")
            self._videos[kind, camera] = writer
        self._videos[kind, camera].write(np.ascontiguousarray(frame))

    def _finish(self) -> None:
        sequence, poses = self.sequence, self._poses
        if not poses:
            raise DecafError(f"{sequence.split}/{sequence.subject} has no frames")
        for (kind, camera), rows in self._rows.items():
            _save(sequence.of_camera(kind, camera), np.stack(rows))
        head, hand = np.stack([p.head_contact for p in poses]), np.stack([p.hand_contact for p in poses])
        contacts = {"head": head, "head_flipped": head[:, self.flip], "rh": hand, "lh": hand}
        for name, bits in contacts.items():
            _save(sequence.annotation("contacts", f"contacts_{name}.npy"), bits.astype(np.uint8))
        _save(sequence.annotation("deformations", "deforms.npy"), np.stack([p.deformation for p in poses]))
        params = {i: {"head": dict(p.head), "right_hand": dict(p.hand)} for i, p in enumerate(poses)}
        for name in ("params_smoothed.pkl", "params.pkl"):
            _dump(sequence.annotation("params", name), params)
        cameras = {
            name: {"intrinsic": camera.intrinsic, "extrinsic": camera.extrinsic, **camera.extra}
            for name, camera in self.cameras.items()
        }
        _dump(sequence.annotation("cameras", "cameras.pkl"), cameras)
        _dump(sequence.cuts, self._cuts)
        shape = {
            "head": {"shape_params": poses[0].head["shape_params"]},
            "right_hand": {"betas": poses[0].hand["betas"]},
        }
        _dump(sequence.accurate_shape, shape)
        _save(
            sequence.transformation("RT_FromCanToRef_wo_poseparams"), np.stack([rigid for rigid, _ in self._canonical])
        )
        _save(sequence.transformation("rh_keys_tipShortened_in_canonical"), np.stack([k for _, k in self._canonical]))
        hand_pose = [np.concatenate([p.hand["transl"], p.hand["global_orient"], p.hand["hand_pose"]]) for p in poses]
        turned = np.stack(hand_pose)
        for row, (rigid, _) in zip(turned, self._canonical, strict=True):
            row[:6] = _into_head(row[:6], rigid)
        _save(sequence.transformation("rh_pose_in_canonical"), turned)


def _into_head(transl_orient: NDArray[Any], rigid: NDArray[np.float64]) -> NDArray[Any]:
    """transl and global_orient (6,) from world to head axes; the order of the 51 values of Decaf's file is not published."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_matrix(rigid[:3, :3].T)
    orient = (turn * Rotation.from_rotvec(transl_orient[3:])).as_rotvec()
    return np.concatenate([turn.apply(transl_orient[:3] - rigid[:3, 3]), orient])


def _save(path: Path, array: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array, allow_pickle=False)


def _dump(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=4))
