"""Parameters of a person's parts -> their meshes, so that what was changed on parameters and the meshes stay one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from handface.model.bodies.body import ParametricBody
from handface.model.bodies.convention import named_convention
from handface.model.network.decode import NamedBody, mirrored_hand
from handface.model.prediction.prediction import Floats, Part

_NEEDED = {"betas", "pose", "global_orient", "transl"}


class PartPoser:
    """Poses one kind of body, the arrays of which are those of right hands or of heads."""

    def __init__(self, body: NamedBody) -> None:
        self.kind = body.arrays.kind
        self._needed = _NEEDED | ({"expression"} if body.arrays.num_expressions else set())
        self._body = ParametricBody(body.arrays, named_convention(body.convention, body.arrays.kind))

    def __call__(self, part: Part, side: str) -> Part:
        """The part with vertices (posed less deformation) and keypoints as its parameters say.

        A part whose parameters do not say all, as of a mirrored head without a known mirror image, comes back as it is.
        """
        if not self._needed <= part.parameters.keys():
            return part
        if self.kind == "hand" and side == "left":
            return mirrored_hand(self(mirrored_hand(part), "right"))
        vertices, keypoints = self._pose(part.parameters)
        return replace(part, vertices=vertices - part.deformation, keypoints_3d=keypoints)

    @torch.inference_mode()
    def _pose(self, parameters: Mapping[str, Floats]) -> tuple[Floats, Floats]:
        out = self._body(**{name: torch.from_numpy(np.asarray(parameters[name]))[None] for name in self._needed})
        return out.vertices[0].numpy(), out.keypoints[0].numpy()
