"""What is compared: posed hand-face pairs, predicted or true, in one form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from handface.model.bodies import ParametricBody
from handface.model.network.heads import BodyParameters
from handface.model.network.output import DiceOutput

Variant = Literal["parametric", "direct"]


@dataclass(frozen=True)
class Meshes:
    """B hands at B heads. Metres; camera axes x right, y down, z forward; any common origin per sample.

    hand: (B, Vh, 3).  head: (B, Vf, 3), not yet deformed.  deformation: (B, Vf, 3), to be SUBTRACTED from the head.
    keypoints: (B, 89, 3), 68 of the face, then 21 of the hand, on the undeformed head.
    hand_contact: (B, Vh) and head_contact: (B, Vf), probabilities or 0 and 1.  presence: (B,), the same of touching at all.
    pixels: (B, 89, 2), the keypoints in the network's input; of predictions.
    """

    hand: torch.Tensor
    head: torch.Tensor
    deformation: torch.Tensor
    keypoints: torch.Tensor
    hand_contact: torch.Tensor
    head_contact: torch.Tensor
    presence: torch.Tensor
    pixels: torch.Tensor | None = None

    @property
    def deformed(self) -> torch.Tensor:
        """The head as it is seen, (B, Vf, 3)."""
        return self.head - self.deformation

    def __len__(self) -> int:
        return len(self.hand)


@torch.no_grad()
def predicted_meshes(
    output: DiceOutput,
    hand: ParametricBody,
    head: ParametricBody,
    variant: Variant = "parametric",
    camera_origin: Literal["head_mean", "world"] = "head_mean",
) -> Meshes:
    """A prediction as meshes. parametric: the bodies posed by the predicted parameters (the paper's P); direct: the network's
    own vertices and keypoints (NP). camera_origin: as in the network's `CameraConfig`. float32.
    """
    if variant == "parametric":
        hand_out, head_out = _pose(hand, output.hand.parameters), _pose(head, output.head.parameters)
        hand_vertices, hand_keypoints = hand_out.vertices, hand_out.keypoints
        head_vertices, head_keypoints = head_out.vertices, head_out.keypoints
    else:
        hand_vertices, hand_keypoints = output.hand.vertices[0].float(), output.hand.keypoints.float()
        head_vertices, head_keypoints = output.head.vertices[0].float(), output.head.keypoints.float()
    keypoints = torch.cat([head_keypoints, hand_keypoints], 1)
    camera = output.camera.float()
    origin = head_vertices.mean(1, keepdim=True) if camera_origin == "head_mean" else torch.zeros_like(keypoints[:, :1])
    pixels = camera[:, None, :1] * (keypoints - origin)[..., :2] + camera[:, None, 1:]
    return Meshes(
        hand=hand_vertices,
        head=head_vertices,
        deformation=output.head.deformation[0].float(),
        keypoints=keypoints,
        hand_contact=output.hand.contact.float(),
        head_contact=output.head.contact.float(),
        presence=output.presence.float(),
        pixels=pixels,
    )


def _pose(body: ParametricBody, parameters: BodyParameters):  # type: ignore[no-untyped-def]
    values = {name: value.float() for name, value in parameters._asdict().items()}
    return body(**(values if values["expression"].shape[1] else values | {"expression": None}))
