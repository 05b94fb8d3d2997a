"""The entry of the metrics: prediction and truth in, one row of numbers per sample out; `table.summarise` makes metrics of rows.

rows = [measure(batch.keys, prediction, truth, surface, picture=..., direct=...) for batch in loader]
estimates = summarise(gather(Records.merge(rows)))
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from handface.trainers.batch import Batch
from handface.trainers.metrics.contact import contact_counts
from handface.trainers.metrics.meshes import Meshes
from handface.trainers.metrics.plausibility import Depths, Surface, hand_depths, plausibility
from handface.trainers.metrics.pose import deformation_errors, pose_errors
from handface.trainers.metrics.records import Records
from handface.trainers.metrics.wild import depth_order, reprojection


@dataclass(frozen=True)
class Known:
    """Which labels the samples have, (B,) bool each."""

    mesh: torch.Tensor
    contact: torch.Tensor
    deformation: torch.Tensor

    @classmethod
    def of(cls, batch: Batch) -> Known:
        """A batch's masks."""
        return cls(batch.has_mesh, batch.has_contact, batch.has_deformation)


@torch.no_grad()
def measure(
    batch: Batch,
    prediction: Meshes,
    truth: Meshes,
    surface: Surface | None,
    direct: Meshes | None = None,
    reference: Depths | None = None,
) -> Records:
    """A batch's rows. prediction: parametric meshes.  truth: as the labels have it; arbitrary where they do not.

    surface: the head's triangles; None leaves plausibility out, which takes longer than all else.  direct: the network's own
    vertices, for the columns `direct_*`.  reference: `hand_depths` of the truth, where several predictions share it.
    """
    known = Known.of(batch)
    mesh = known.mesh.float()
    columns = _masked(pose_errors(prediction, truth), known.mesh) | {"frames": mesh}
    if direct is not None:
        errors = pose_errors(direct, truth)
        columns |= _masked({f"direct_{n}": errors[n] for n in ("pve", "mpjpe", "pa_mpjpe")}, known.mesh)
        columns["direct_frames"] = mesh
    columns |= _masked(deformation_errors(prediction, truth), known.deformation)
    columns["deformed"] = known.deformation.float()
    columns |= _masked(contact_counts(prediction, truth), known.contact)
    if prediction.pixels is not None:
        columns |= reprojection(prediction.pixels, batch.face_keypoints_2d, batch.hand_keypoints_2d)
    columns |= depth_order(prediction.keypoints, batch.keypoint_depth, batch.depth_kind, batch.visibility)
    if surface is not None:
        reference = hand_depths(truth, surface, known.mesh) if reference is None else reference
        columns |= plausibility(hand_depths(prediction, surface, known.mesh), reference, known.mesh)
    return Records(batch.keys, {name: value.double().cpu().numpy() for name, value in columns.items()})


def _masked(columns: dict[str, torch.Tensor], mask: torch.Tensor) -> dict[str, torch.Tensor]:
    """0 where the label is not there; whatever was computed from a missing one, NaN included, is gone."""
    return {name: torch.where(mask, value, torch.zeros_like(value)) for name, value in columns.items()}
