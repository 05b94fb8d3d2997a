"""What hangs on a body in pictures but is no part of it: forearm, bust, teeth, tongue."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from handface.model.bodies.arrays import BodyFileError, Floats, Integers
from handface.model.bodies.body import BodyOutput, ParametricBody
from handface.model.bodies.load import DATA
from handface.model.bodies.npz import read_arrays, write_arrays

ATTACHMENTS = {"hand": "forearm", "head": "bust"}
_ARRAYS = ("template", "faces", "uv", "face_uv", "part", "joint", "follow_vertices", "follow_weights")


@dataclass(frozen=True)
class AttachmentArrays:
    """A mesh whose vertices move rigidly with a joint and follow the displacement of some vertices of the body.

    template: (W, 3) in the body's rest frame.  faces: (F, 3).  uv: (T, 2).  face_uv: (F, 3), same atlas as the body.
    part: (F,) index into `parts`.  joint: (W,).  follow_vertices: (W, K) of the body.  follow_weights: (W, K), may sum below 1.
    """

    template: Floats
    faces: Integers
    uv: Floats
    face_uv: Integers
    part: Integers
    joint: Integers
    follow_vertices: Integers
    follow_weights: Floats
    parts: tuple[str, ...]

    def mirrored(self) -> AttachmentArrays:
        """The attachment of the mirrored body (x -> -x)."""
        flip = np.array([-1, 1, 1], self.template.dtype)
        faces, face_uv = self.faces[:, [0, 2, 1]], self.face_uv[:, [0, 2, 1]]
        return replace(self, template=self.template * flip, faces=faces, face_uv=face_uv)


class Attachment(nn.Module):
    """Places an attachment on posed bodies. faces: (F, 3).  `arrays` has texture coordinates and parts."""

    template: torch.Tensor
    faces: torch.Tensor
    joint: torch.Tensor
    follow_vertices: torch.Tensor
    follow_weights: torch.Tensor
    body_template: torch.Tensor

    def __init__(self, arrays: AttachmentArrays, body: ParametricBody) -> None:
        super().__init__()
        self.arrays = arrays
        for name in ("faces", "joint", "follow_vertices"):
            self.register_buffer(name, torch.from_numpy(getattr(arrays, name).astype(np.int64)))
        for name in ("template", "follow_weights"):
            self.register_buffer(name, torch.tensor(getattr(arrays, name)).to(body.template))
        self.register_buffer("body_template", body.template.clone())

    def forward(self, output: BodyOutput) -> torch.Tensor:
        """(B, W, 3): T_j (x + sum_k w_k (T_j^-1 p_k - p0_k)), with p the body's posed vertices and p0 those of its template."""
        transform = output.transforms[:, self.joint]
        turn, move = transform[..., :3, :3], transform[..., :3, 3]
        followed = output.vertices[:, self.follow_vertices] - move[:, :, None]
        displacement = followed @ turn - self.body_template[self.follow_vertices]  # rows times R is R^-1 times columns
        rest = self.template + (displacement * self.follow_weights[..., None]).sum(2)
        return (turn @ rest[..., None])[..., 0] + move


def load_attachment(body: ParametricBody, side: str = "right") -> Attachment:
    """The free hand's forearm or the free head's bust (with teeth and tongue). side: as given to `load_body`.

    Raises BodyFileError if the body is not the free one, whose vertices the attachment is made for.
    """
    name = ATTACHMENTS[body.arrays.kind]
    arrays = read_attachment(DATA / f"{name}.npz")
    if "package" not in body.arrays.provenance:
        raise BodyFileError(f"{name}.npz hangs on the free {body.arrays.kind}; an imported body has no attachment")
    return Attachment(arrays.mirrored() if side == "left" else arrays, body)


def save_attachment(path: Path, arrays: AttachmentArrays) -> None:
    """Write as an .npz without pickle."""
    text: dict[str, Any] = {"text": np.array(json.dumps({"parts": arrays.parts}))}
    write_arrays(path, text | {name: getattr(arrays, name) for name in _ARRAYS})


def read_attachment(path: Path) -> AttachmentArrays:
    """Read what `save_attachment` wrote. Raises BodyFileError naming file and key."""
    data = read_arrays(path)
    for key in (*_ARRAYS, "text"):
        if key not in data:
            raise BodyFileError(f"{path}: key {key!r} is missing; build it again with `handface bodies build`")
    parts = tuple(json.loads(str(data.pop("text")))["parts"])
    return AttachmentArrays(**data, parts=parts)
