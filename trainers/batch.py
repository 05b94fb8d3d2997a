"""What the loader hands to the training step: one batch of samples as tensors, with masks that say which labels are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import torch


@dataclass(frozen=True)
class BodyLabels:
    """Parameters of one part in camera axes, as the sample's own body model and convention mean them; zeros where unknown.

    betas: (B, S).  expression: (B, E), E = 0 for the hand.  pose: (B, P) axis-angle, radians.  global_orient: (B, 3) axis-angle.
    transl: (B, 3) metres.
    """

    betas: torch.Tensor
    expression: torch.Tensor
    pose: torch.Tensor
    global_orient: torch.Tensor
    transl: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """B samples. Right hands only: a left-hand sample was mirrored, picture and labels. Camera axes x right, y down, z forward.

    keys: B sample keys.  origins: (B,) int64, which of the mix's datasets each comes from.
    images: (B, 3, S, S) uint8 RGB.
    face_keypoints_2d: (B, 68, 3) and hand_keypoints_2d: (B, 21, 3): x, y in pixels of `images`, centres at integers, and confidence,
        0 where unknown.
    points: (B, 89, 3) likewise, face then hand: what a network that looks at points is given. The labels, or what the detector found
        instead of them (`DatasetConfig.found`).
    visibility: (B, 89), face then hand: 1 seen, 0 hidden; 1 where nobody knows.
    keypoint_depth: (B, 89, 2) value and validity 0 or 1, face then hand.  depth_kind: (B,) int64 index into
        `pipeline.sample.DEPTH_KINDS`, -1 without depth.
    hand, head: body parameters.  hand_contact: (B, Vh) and head_contact: (B, Vf), 0 or 1.
    head_deformation: (B, Vf, 3) metres, head axes, ADDED to the posed head before its global_orient.
    decaf_head: (B,) bool, head parameters are in Decaf's convention (root and jaw, turned about the centroid).
    has_mesh: (B,) bool, parameters are known.  has_contact, has_deformation: (B,) bool.
    """

    keys: tuple[str, ...]
    origins: torch.Tensor
    images: torch.Tensor
    face_keypoints_2d: torch.Tensor
    hand_keypoints_2d: torch.Tensor
    points: torch.Tensor
    visibility: torch.Tensor
    keypoint_depth: torch.Tensor
    depth_kind: torch.Tensor
    hand: BodyLabels
    head: BodyLabels
    hand_contact: torch.Tensor
    head_contact: torch.Tensor
    head_deformation: torch.Tensor
    decaf_head: torch.Tensor
    has_mesh: torch.Tensor
    has_contact: torch.Tensor
    has_deformation: torch.Tensor

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def keypoints_2d(self) -> torch.Tensor:
        """Face, then hand points. (B, 89, 3)."""
        return torch.cat([self.face_keypoints_2d, self.hand_keypoints_2d], 1)

    def __getitem__(self, rows: slice) -> Batch:
        """Some of the samples."""
        part = _each_tensor(self, lambda value: value[rows])
        return replace(part, keys=self.keys[rows])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device; copies from pinned memory do not block."""
        return _each_tensor(self, lambda value: value.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory (torch's DataLoader calls this)."""
        return _each_tensor(self, torch.Tensor.pin_memory)


Labelled = TypeVar("Labelled", Batch, BodyLabels)


def _each_tensor(owner: Labelled, change: Callable[[torch.Tensor], torch.Tensor]) -> Labelled:
    changed: dict[str, object] = {}
    for field in fields(owner):
        value = getattr(owner, field.name)
        if isinstance(value, torch.Tensor):
            changed[field.name] = change(value)
        elif isinstance(value, BodyLabels):
            changed[field.name] = _each_tensor(value, change)
    return replace(owner, **changed)  # type: ignore[arg-type]
