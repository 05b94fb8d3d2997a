"""The hand and the head that 3D labels must be of: names, sizes, mirror maps, and the point each turns about."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from handface.model.bodies import DECAF, BodyArrays, ParametricBody, load_arrays
from handface.model.bodies.arrays import KeypointSet
from handface.pipeline.contract.sample import Labels, SampleError

DECAF_SUFFIX = "-decaf"  # of `head_model`, where the head's parameters are in Decaf's convention
_GENERIC = {"hand": "mano", "head": "flame"}  # what labels made from the licensed files themselves call the bodies
_DECAF_POSE = 3 * len(DECAF["head"].pose_joints or ())


@dataclass(frozen=True)
class Parameters:
    """One part of one sample. betas: (S,).  expression: (E,).  pose: (P,).  orient, transl: (3,). Padded with zeros.

    decaf: the head's parameters are in Decaf's convention and fill the first columns of `pose`.
    """

    betas: NDArray[np.float32]
    expression: NDArray[np.float32]
    pose: NDArray[np.float32]
    orient: NDArray[np.float32]
    transl: NDArray[np.float32]
    decaf: bool = False


class BodyPart:
    """One of the two bodies. `pose` is the width of the pose vector, 3 (J - 1)."""

    def __init__(self, kind: Literal["hand", "head"], body: str) -> None:
        """body: as `load_body` takes it. Raises BodyFileError."""
        self.kind, self.body = kind, body
        self.arrays = load_arrays(body)
        stem = Path(body).stem
        self.names = {stem} if body.startswith("free-") else {stem, _GENERIC[kind]}
        self.vertices, self.betas = len(self.arrays.template), self.arrays.num_betas
        self.expression = self.arrays.num_expressions
        self.pose = 3 * (len(self.arrays.parents) - 1)
        mirror = self.arrays.mirror
        self.mirror: NDArray[np.int64] | None = None if mirror is None else mirror.vertices.astype(np.int64)
        self.mirrors_parameters = kind == "hand" or (
            mirror is not None and mirror.betas is not None and mirror.expression is not None
        )
        self._centroid = _Centroid(self.arrays) if kind == "head" else None

    def mismatch(self, labels: Labels) -> str:
        """Why the labels' body is not this one, or ""."""
        model = labels.hand_model if self.kind == "hand" else labels.head_model
        if (model or "").removesuffix(DECAF_SUFFIX) in self.names:
            return ""
        return f"3D labels of {self.kind} {model or 'without a name'}, not {self.body}"

    def parameters(self, labels: Labels) -> Parameters | None:
        """The part's parameters, or None where the sample has none. Raises SampleError if their widths do not fit the body."""
        values = [getattr(labels, f"{self.kind}_{name}") for name in ("betas", "pose", "global_orient", "transl")]
        expression = labels.head_expression if self.kind == "head" else np.zeros(0, np.float32)
        if expression is None or any(value is None for value in values):
            return None
        betas, pose, orient, transl = values
        if not all(math.isfinite(value.sum()) for value in (betas, expression, pose, orient, transl)):
            raise SampleError(f"{self.kind} parameters hold numbers that are not finite")
        decaf = self.kind == "head" and (labels.head_model or "").endswith(DECAF_SUFFIX)
        if pose.size != (_DECAF_POSE if decaf else self.pose):
            raise SampleError(f"{self.kind}_pose has {pose.size} numbers, {self.body} takes {self.pose}")
        return Parameters(
            self._padded("betas", betas, self.betas),
            self._padded("expression", expression, self.expression),
            self._padded("pose", pose.ravel(), self.pose),
            orient,
            transl,
            decaf,
        )

    def rest(self) -> Parameters:
        """All zeros."""
        widths = (self.betas, self.expression, self.pose, 3, 3)
        betas, expression, pose, orient, transl = (np.zeros(width, np.float32) for width in widths)
        return Parameters(betas, expression, pose, orient, transl)

    def _padded(self, name: str, value: NDArray[np.float32], width: int) -> NDArray[np.float32]:
        if len(value) > width and value[width:].any():
            raise SampleError(f"{self.kind}_{name} has {len(value)} coefficients, {self.body} only {width}")
        padded = np.zeros(width, np.float32)
        padded[: len(value)] = value[:width]
        return padded

    def bits(self, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(V,) 0 or 1 from packed contact bits. Raises SampleError if they are of another mesh."""
        if len(packed) != (self.vertices + 7) // 8:
            raise SampleError(f"{self.kind}_contact has {len(packed)} bytes, {self.body} has {self.vertices} vertices")
        return np.unpackbits(packed, count=self.vertices)

    def pivot(
        self, betas: torch.Tensor, expression: torch.Tensor, pose: torch.Tensor, decaf: torch.Tensor
    ) -> torch.Tensor:
        """The point, before global_orient and transl, that the body turns about: its root joint; of Decaf's heads the centroid.

        betas: (B, S).  expression: (B, E).  pose: (B, P).  decaf: (B,) bool.  Returns (B, 3) metres.
        """
        arrays = self.arrays
        pivot = torch.from_numpy(np.asarray(arrays.joint_template[0])).to(betas).expand(len(betas), 3)
        pivot = pivot + betas @ torch.from_numpy(np.asarray(arrays.joint_shapedirs[0])).to(betas).T
        if self.expression:
            pivot = pivot + expression @ torch.from_numpy(np.asarray(arrays.joint_expressiondirs[0])).to(betas).T
        if self._centroid is not None and decaf.any():
            pivot = torch.where(decaf[:, None], self._centroid(betas, expression, pose[:, :_DECAF_POSE]), pivot)
        return pivot


class _Centroid:
    """The mean posed vertex of a head in Decaf's convention, without posing all of them.

    Skinning is linear: mean_v sum_j w_vj T_j v = sum_j a_j T_j m_j, a_j = mean_v w_vj and m_j = mean_v w_vj v / a_j. So a body
    with one vertex m_j per joint does.
    """

    def __init__(self, arrays: BodyArrays) -> None:
        weights = np.asarray(arrays.weights, np.float64)
        shares = weights.mean(0)  # a, (J,)
        each = weights / len(weights) / np.where(shares > 0, shares, 1)  # (V, J)

        def gather(points: NDArray[np.floating[Any]]) -> NDArray[np.float64]:  # (V, 3, ...) -> (J, 3, ...)
            return np.einsum("vj,v...->j...", each, np.asarray(points, np.float64))

        nowhere, points = np.zeros((1, 3)), np.zeros((1, 3, arrays.num_betas))
        corners = np.zeros((1, 3), np.int64)
        small = replace(
            arrays,
            template=gather(arrays.template),
            faces=corners,
            shapedirs=gather(arrays.shapedirs),
            expressiondirs=gather(arrays.expressiondirs),
            posedirs=gather(arrays.posedirs),
            weights=np.eye(len(shares)),
            keypoint_sets={"none": KeypointSet(np.zeros(1, np.int64), nowhere, points, corners, nowhere)},
            stiffness=None,
            mirror=None,
            masks={},
            levels=(),
        )
        self._body, self._shares = ParametricBody(small, DECAF["head"]), torch.from_numpy(shares).float()

    def __call__(self, betas: torch.Tensor, expression: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        """betas: (B, S).  expression: (B, E).  pose: (B, 6).  Returns (B, 3) metres."""
        with torch.no_grad():
            moved: torch.Tensor = self._body(betas, pose, expression=expression).vertices  # (B, J, 3)
        return (moved * self._shares[:, None]).sum(1)
