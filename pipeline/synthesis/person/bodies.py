"""The free hand and head as synthesis uses them: posed into numpy, closed, and what never changes worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from handface.model.bodies.arrays import BodyArrays
    from handface.model.bodies.body import ParametricBody

HAND_MODEL, HEAD_MODEL = "free-hand", "free-head"
Array = NDArray[np.float64]
# The face and scalp in the base mesh's texture; eye sockets, mouth and eyeballs lie elsewhere.
_SKIN_WINDOW = ((0.62, 0.09), (1.0, 0.90))


@dataclass(frozen=True)
class PosedPerson:
    """Bodies in their canonical frame (no global_orient, no transl), metres.

    vertices: (B, V, 3).  keypoints: (B, K, 3).  root: (B, 3) the joint that global_orient turns about.
    """

    vertices: Array
    keypoints: Array
    root: Array


class SceneBody:
    """One parametric body, its arrays at hand in numpy."""

    def __init__(self, body: ParametricBody) -> None:
        self.body = body
        self.arrays: BodyArrays = body.arrays
        self.faces: NDArray[np.int64] = self.arrays.faces.astype(np.int64)
        self.closed_faces: NDArray[np.int64] = np.concatenate([self.faces, self.arrays.caps.astype(np.int64)])

    def posed(self, betas: Array, pose: Array, expression: Array | None = None) -> PosedPerson:
        """Pose a batch. betas: (S,).  pose: (B, J - 1, 3) axis-angle.  expression: (E,)."""
        import torch

        with torch.inference_mode():
            out = self.body(
                betas=torch.from_numpy(betas[None]),
                pose=torch.from_numpy(pose.reshape(len(pose), -1)),
                expression=None if expression is None else torch.from_numpy(expression[None]),
            )
        return PosedPerson(*(x.numpy().astype(np.float64) for x in (out.vertices, out.keypoints, out.joints[:, 0])))

    @cached_property
    def template_keypoints(self) -> Array:
        """Keypoints of the rest pose, (K, 3)."""
        return self.posed(np.zeros(self.arrays.num_betas), np.zeros((1, len(self.arrays.parents) - 1, 3))).keypoints[0]

    @cached_property
    def skin_faces(self) -> NDArray[np.int64]:
        """Rows of the faces that carry the skin texture."""
        assert self.arrays.uv is not None and self.arrays.face_uv is not None
        centre = self.arrays.uv[self.arrays.face_uv].mean(1)
        low, high = np.array(_SKIN_WINDOW)
        return np.flatnonzero(((centre > low) & (centre < high)).all(1) & ~self.eye_faces)

    @cached_property
    def eye_faces(self) -> NDArray[np.bool_]:
        """(F,) faces of the eyeballs."""
        on_ball: NDArray[np.bool_] = np.all(self.arrays.masks["eyes"][self.faces] > 0.5, axis=1)
        return on_ball

    @cached_property
    def inner_faces(self) -> NDArray[np.int64]:
        """Rows of the faces inside mouth and eye sockets."""
        inside = (self.arrays.masks["cavity"][self.faces] > 0.5).all(1) & ~self.eye_faces
        inside[self.skin_faces] = False
        return np.flatnonzero(inside)

    @cached_property
    def plain_faces(self) -> NDArray[np.int64]:
        """Rows of the skin faces outside the texture window: the lower neck."""
        plain = ~self.eye_faces
        plain[self.skin_faces] = plain[self.inner_faces] = False
        return np.flatnonzero(plain)


@cache
def free_hand() -> SceneBody:
    """The right hand of the package; its keypoints are what MediaPipe means by them."""
    from handface.model.bodies.convention import Convention
    from handface.model.bodies.load import load_body

    return SceneBody(load_body(HAND_MODEL, Convention(keypoints="mediapipe")))


@cache
def free_head() -> SceneBody:
    """The head of the package; its keypoints are the 68 of iBUG."""
    from handface.model.bodies.load import load_body

    return SceneBody(load_body(HEAD_MODEL))
