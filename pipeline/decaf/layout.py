"""Where Decaf keeps things, and one frame of it as a typed record: the names that reader and writer share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
NO_BOX = (-1, -1, -1, -1)  # a detector that found nothing

HEAD_PARAMS = {"transl": 3, "global_orient": 3, "shape_params": 100, "pose_params": 6, "expression_params": 50}
HAND_PARAMS = {"betas": 10, "global_orient": 3, "hand_pose": 45, "transl": 3}


class DecafError(ValueError):
    """A Decaf folder is not what its layout asks for; the message names the file and the key."""


@dataclass(frozen=True)
class DecafCamera:
    """A pinhole camera. intrinsic: (3, 3) pixels.  extrinsic: (4, 4) world -> camera, x right, y down, z forward, metres.

    extra: whatever else the file holds for it, distortion for one, which the public readers leave alone.
    """

    intrinsic: NDArray[np.float64]
    extrinsic: NDArray[np.float64]
    extra: dict[str, Any]

    def project(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """World points (N, 3) in metres -> pixels (N, 2): K [R | t] [X; 1]."""
        seen = (points @ self.extrinsic[:3, :3].T + self.extrinsic[:3, 3]) @ self.intrinsic.T
        projected: NDArray[np.float64] = seen[:, :2] / seen[:, 2:]
        return projected


@dataclass(frozen=True)
class Pose3D:
    """What all cameras share in one frame, world coordinates, metres, radians.

    head, hand: parameters by the names of HEAD_PARAMS and HAND_PARAMS, 1-D.  head_contact: (Vf,) bool.  hand_contact: (Vh,) bool.
    deformation: (Vf, 3), to be SUBTRACTED from the head before its global_orient.
    """

    head: dict[str, NDArray[np.float32]]
    hand: dict[str, NDArray[np.float32]]
    head_contact: NDArray[np.bool_]
    hand_contact: NDArray[np.bool_]
    deformation: NDArray[np.float32]


@dataclass(frozen=True)
class DecafView:
    """What one camera saw in one frame.

    image: (h, w, 3) uint8 RGB.  mask: (h, w) bool, True on the person.  head_box, hand_box: x0, y0, x1, y1 pixels; None if not found.
    head_keys: (68, 3) iBUG order.  hand_keys: (21, 3) MediaPipe order.  Keys are x, y, confidence; confidence 0 if not found.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    head_box: tuple[int, int, int, int] | None
    hand_box: tuple[int, int, int, int] | None
    head_keys: NDArray[np.float32]
    hand_keys: NDArray[np.float32]


@dataclass(frozen=True)
class Sequence:
    """The paths of one (split, subject); cameras by their ids, three digits."""

    root: Path
    split: str
    subject: str

    def annotation(self, kind: str, name: str) -> Path:
        """A file that all cameras share: kind is contacts, deformations, params, cameras."""
        return self.root / self.split / kind / self.subject / name

    def of_camera(self, kind: str, camera: str) -> Path:
        """A camera's own file: kind is videos, segmentations, head_keys, right_hand_keys, head_bbs, right_hand_bbs."""
        suffix = "mp4" if kind in ("videos", "segmentations") else "npy"
        return self.root / self.split / kind / self.subject / f"{camera}.{suffix}"

    @property
    def cuts(self) -> Path:
        """The list of (last frame before, first frame after) a cut."""
        return self.root / self.split / "cutIDs" / f"{self.subject}.pkl"

    @property
    def accurate_shape(self) -> Path:
        """The subject's shape, found once."""
        return self.root / "assets" / "accurate_shapes" / f"{self.subject}.pkl"

    def transformation(self, name: str) -> Path:
        """A per-frame array derived from the parameters, by the end of its name."""
        return self.root / "assets" / "transformation" / self.split / f"{self.subject}_{name}.npy"
