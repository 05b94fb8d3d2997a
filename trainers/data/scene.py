"""3D labels of one sample, checked against the configured bodies and mirrored where that has to be done per vertex."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.sample import Labels, SampleError
from handface.trainers.data.bodies import BodyPart, Parameters

_FLIP = np.array([-1, 1, 1], np.float32)


@dataclass(frozen=True)
class SceneLabels:
    """What is known in 3D; None where it is not.

    hand, head: parameters as stored; `collate` mirrors and turns them.  hand_contact: (Vh,) and head_contact: (Vf,) of 0 and 1.
    rows: (N,) head vertices that move, and displacement: (N, 3) metres, head axes.
    """

    hand: Parameters | None = None
    head: Parameters | None = None
    hand_contact: NDArray[np.uint8] | None = None
    head_contact: NDArray[np.uint8] | None = None
    rows: NDArray[np.int64] | None = None
    displacement: NDArray[np.float32] | None = None


def read_scene(labels: Labels, hand: BodyPart, head: BodyPart, mirrored: bool) -> tuple[SceneLabels, tuple[str, ...]]:
    """The 3D labels that these bodies can use, and remarks on what had to be left out.

    Labels of other bodies are left out. Raises SampleError for labels that do not fit the body they name.
    """
    if labels.hand_pose is None and labels.head_pose is None and labels.hand_contact is None:
        return SceneLabels(), ()
    if remarks := tuple(remark for part in (hand, head) if (remark := part.mismatch(labels))):
        return SceneLabels(), remarks
    scene = SceneLabels()
    if labels.hand_contact is not None and labels.head_contact is not None:
        bits = hand.bits(labels.hand_contact), head.bits(labels.head_contact)
        scene = replace(scene, hand_contact=bits[0], head_contact=bits[1])
    hand_pose, head_pose = hand.parameters(labels), head.parameters(labels)
    if hand_pose is not None and head_pose is not None:
        scene = replace(scene, hand=hand_pose, head=head_pose)
        if labels.head_deformation is not None and labels.head_deformation_rows is not None:
            rows = labels.head_deformation_rows.astype(np.int64)
            if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < head.vertices:
                raise SampleError(
                    f"head_deformation_rows reach {int(rows.max())}, {head.body} has {head.vertices} vertices"
                )
            if not np.isfinite(labels.head_deformation).all():
                raise SampleError("head_deformation holds numbers that are not finite")
            scene = replace(scene, rows=rows, displacement=labels.head_deformation.astype(np.float32))
    return _mirror(scene, head) if mirrored else (scene, ())


def _mirror(scene: SceneLabels, head: BodyPart) -> tuple[SceneLabels, tuple[str, ...]]:
    """Contact and deformation of the mirrored scene: a hand's vertices keep their numbers, a head's change sides."""
    remarks: tuple[str, ...] = ()
    if not head.mirrors_parameters and scene.head is not None:  # no coefficients give this face's mirror image
        remarks = (f"3D labels of a left hand's scene, which {head.body} cannot mirror",)
        scene = replace(scene, hand=None, head=None, rows=None, displacement=None)
    if head.mirror is None:
        return replace(scene, hand_contact=None, head_contact=None), remarks
    if scene.head_contact is not None:
        scene = replace(scene, head_contact=scene.head_contact[head.mirror])
    if scene.rows is not None and scene.displacement is not None:
        scene = replace(scene, rows=head.mirror[scene.rows], displacement=scene.displacement * _FLIP)
    return scene, remarks
