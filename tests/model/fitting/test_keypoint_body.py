"""The reduced body against the whole one and against automatic derivatives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handface.model.bodies import Convention, load_arrays
from handface.model.bodies.body import ParametricBody
from handface.model.bodies.convention import DECAF, named_convention
from handface.model.fitting.keypoint_body import FitParameters, KeypointBody


def _with_pose_shapes(arrays):
    """The free bodies have no pose blend shapes and no pose components; MANO and FLAME do."""
    rng = np.random.default_rng(5)
    joints, vertices = len(arrays.parents), len(arrays.template)
    return replace(
        arrays,
        posedirs=rng.normal(0, 1e-3, (vertices, 3, 9 * (joints - 1))).astype(np.float32),
        pose_mean=rng.normal(0, 0.1, 3 * (joints - 1)).astype(np.float32),
        pose_components=rng.normal(0, 0.3, (6, 3 * (joints - 1))).astype(np.float32),
    )


CASES = {
    "free hand": ("free-hand", named_convention("free", "hand"), False),
    "free head": ("free-head", named_convention("free", "head"), False),
    "pose shapes, Decaf hand": ("free-hand", DECAF["hand"], True),
    "pose shapes, Decaf head": ("free-head", DECAF["head"], True),
    "pose components": ("free-hand", Convention(flat_mean=False, pose_pca=6), True),
}


@pytest.mark.parametrize("name", CASES)
def test_points_and_derivatives_are_the_whole_body_s(name: str) -> None:
    file, convention, shapes = CASES[name]
    arrays = load_arrays(file)
    body = ParametricBody(_with_pose_shapes(arrays) if shapes else arrays, convention, torch.float64)
    for weights in (body.lbs_weights, body.keypoints.weights):  # of a file they add up to 1 to single precision alone
        weights /= weights.sum(1, keepdim=True)
    chosen = [7, 300, 1200]
    reduced = KeypointBody(body, chosen, torch.float64)
    generator = torch.Generator().manual_seed(3)

    def draw(width: int) -> torch.Tensor:
        return 0.4 * torch.randn(2, width, generator=generator, dtype=torch.float64)

    x = FitParameters(draw(reduced.num_shape), draw(reduced.num_pose), draw(3) + 2.0, draw(3))

    def whole(packed: torch.Tensor) -> torch.Tensor:
        y = reduced.unpack(packed)
        out = body(
            betas=y.shape[:, : reduced.num_betas],
            expression=y.shape[:, reduced.num_betas :],
            pose=y.pose,
            global_orient=y.global_orient,
            transl=y.transl,
        )
        return torch.cat([out.keypoints, out.vertices.mean(1, keepdim=True), out.vertices[:, chosen]], 1)

    points, derivative = reduced.evaluate(x)
    torch.testing.assert_close(points, whole(x.pack()), atol=1e-9, rtol=0)
    exact = torch.func.jacfwd(whole)(x.pack())
    exact = torch.stack([exact[b, :, :, b] for b in range(2)])
    torch.testing.assert_close(derivative, exact, atol=1e-8, rtol=0)
