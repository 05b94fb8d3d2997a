"""How parameters are meant: the same arrays are driven differently by MANO, FLAME and Decaf code, so each reading has a name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Convention:
    """One reading of (pose, global_orient, transl) and of the keypoints.

    pivot: what `global_orient` turns about, before `transl` is added: the root joint (MANO, SMPL-X), or the mean of the posed
        vertices, which is how Decaf poses FLAME: v = R (v0 - c) + c + transl.
    pose_joints: joints that `pose` turns, in its order; None is every joint but the root. Decaf's `pose_params` is (0, 2),
        root and jaw, with neck and eyes at rest; that root rotation is part of the pose and comes before the pivot's.
    flat_mean: True: pose is absolute, zero is the flat hand (Decaf). False: the file's mean pose is added (FreiHAND).
    pose_pca: number of the file's pose components that `pose` weighs; None: pose is axis-angle.
    tip_length: finger-tip keypoint = last joint + tip_length (tip - last joint); Decaf shortens to 0.7. Vertices stay.
    keypoints: name of the keypoint set; None is the file's first.
    """

    pivot: Literal["root_joint", "vertex_centroid"] = "root_joint"
    pose_joints: tuple[int, ...] | None = None
    flat_mean: bool = True
    pose_pca: int | None = None
    tip_length: float = 1.0
    keypoints: str | None = None

    def __post_init__(self) -> None:
        if self.pivot == "root_joint" and self.pose_joints is not None and 0 in self.pose_joints:
            raise ValueError("a root_joint pivot leaves no second root rotation: drop joint 0 from pose_joints")
        if self.pose_pca is not None and self.pose_joints is not None:
            raise ValueError("pose_pca weighs all joints: leave pose_joints at None")


SMPLX = Convention()
FREIHAND = Convention(flat_mean=False)
DECAF: Mapping[str, Convention] = {
    "hand": Convention(tip_length=0.7),
    "head": Convention(pivot="vertex_centroid", pose_joints=(0, 2)),
}
FREE: Mapping[str, Convention] = {"hand": Convention(keypoints="mediapipe"), "head": SMPLX}
"""The free bodies as synthetic labels mean them: every joint turns, hand keypoints where MediaPipe puts them."""


def named_convention(name: str, kind: str) -> Convention:
    """`smplx` (also MANO's own), `free`, `freihand` or `decaf` for a body of this kind. Raises ValueError for other names."""
    conventions = {"smplx": SMPLX, "free": FREE[kind], "freihand": FREIHAND, "decaf": DECAF[kind]}
    if name not in conventions:
        raise ValueError(f"no convention {name!r}; one of {', '.join(conventions)}")
    return conventions[name]
