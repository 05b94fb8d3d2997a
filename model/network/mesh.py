"""Which mesh a prediction means, in every command: the bodies posed by its parameters, or the vertices that the network drew itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch

from handface.model.bodies import ParametricBody
from handface.model.network.config import DiceConfig
from handface.model.network.output import DiceOutput, PartOutput

Mesh = Literal["parametric", "drawn"]


class MeshChoice:
    """DiceOutput -> DiceOutput whose finest vertices, keypoints and camera origin are those of the chosen mesh.

    parametric: vertices, before deformation, are the bodies posed by the parameters, to rounding.
    drawn: vertices are the network's own; the parameters then describe the body nearby, a few millimetres off.
    Of released weights keypoints are the posed bodies' in both, and the neck, where the body file has its mask, is not deformed.
    """

    def __init__(self, mesh: Mesh, network: DiceConfig, hand: ParametricBody, head: ParametricBody) -> None:
        """hand, head: the network's bodies, on the outputs' device."""
        self.mesh, self.network, self.hand, self.head = mesh, network, hand, head

    @torch.no_grad()
    def __call__(self, output: DiceOutput) -> DiceOutput:
        """float32 or wider."""
        if self.mesh == "drawn" and not self.network.released:
            return output
        hand, head = self._pose(output.hand, self.hand), self._pose(output.head, self.head)
        if self.network.released and "neck" in self.head.arrays.masks:
            still = 1 - self.head.mask("neck")[:, None]
            finest, *coarser = head.deformation
            head = replace(head, deformation=(finest * still, *coarser))
        origin = output.camera_origin
        if self.network.camera.origin == "head_mean":
            origin = head.vertices[0].mean(1)
        return replace(output, hand=hand, head=head, camera_origin=origin)

    def _pose(self, part: PartOutput, body: ParametricBody) -> PartOutput:
        values = {name: value for name, value in part.parameters._asdict().items() if value.shape[1]}
        posed = body(**values)
        vertices = part.vertices if self.mesh == "drawn" else (posed.vertices, *part.vertices[1:])
        return replace(part, vertices=vertices, keypoints=posed.keypoints)
