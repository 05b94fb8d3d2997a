"""Keypoints as a linear function of a mesh's vertices, so that they can be read off a mesh the network drew itself."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from handface.model.bodies import ParametricBody
from handface.model.bodies.names import MEDIAPIPE_FROM_POINTS
from handface.model.weights.released_topology import TIP_VERTICES

_POSES = 48  # random bodies the weights are fitted on
_SUPPORT = 40  # vertices per keypoint
# metres, the noise that weights are made for: a network's vertices are millimetres off, and with 1 mm here the weights of neighbours
# are so unlike that 5 mm of noise per vertex move a keypoint by 5 mm, with 10 mm by 2
_RIDGE = 1e-2
_SEED = 0


class KeypointReader(nn.Module):
    """Reads a body's keypoints off a mesh: by a regressor (K, V), without the vertices that it never looks at."""

    columns: torch.Tensor
    weights: torch.Tensor

    def __init__(self, body: ParametricBody, released: bool = False) -> None:
        """released: as the released script reads a hand, where its file has a regressor of its own."""
        super().__init__()
        weights = released_regressor(body) if released else None
        weights = keypoint_regressor(body) if weights is None else weights
        columns = weights.any(0).nonzero()[:, 0]
        self.register_buffer("columns", columns)
        self.register_buffer("weights", weights[:, columns])

    def forward(self, vertices: torch.Tensor) -> torch.Tensor:
        """(B, V, 3) -> (B, K, 3)."""
        return self.weights.to(vertices) @ vertices.index_select(1, self.columns)


def released_regressor(body: ParametricBody) -> torch.Tensor | None:
    """The hand model's own regressor for its joints and one vertex for each tip, in MediaPipe's order, (21, V); None without one.

    Farther from the posed keypoints than `keypoint_regressor`: tips are not shortened, and a few rows turn noise of the mesh into more.
    """
    own = body.arrays.joint_regressor
    if own is None or len(own) + len(TIP_VERTICES) != len(MEDIAPIPE_FROM_POINTS) or own.shape[1] <= max(TIP_VERTICES):
        return None
    tips = torch.eye(own.shape[1])[list(TIP_VERTICES)]
    weights = torch.cat([torch.from_numpy(np.asarray(own)).to(tips), tips])
    return weights[list(MEDIAPIPE_FROM_POINTS)].to(body.template)


@torch.no_grad()
def keypoint_regressor(body: ParametricBody) -> torch.Tensor:
    """Weights J with keypoints = J vertices, (K, V), rows sum to 1.

    Points on the surface are exact. Points on bones are fitted by least squares on the 40 nearest vertices over random shapes and
    poses: min_w sum ||w V - k||^2 + ridge^2 ||w - 1/n||^2. Deterministic.
    """
    rest = body()
    points, template = rest.keypoints[0], rest.vertices[0]
    weights = template.new_zeros(len(points), body.num_vertices)
    on_surface = ~body.keypoints.on_bone & (body.keypoints.tip_length == 1)
    weights.scatter_add_(1, body.keypoints.corners, body.keypoints.weights * on_surface[:, None])
    if on_surface.all():
        return weights
    vertices, keypoints = _random_bodies(body)
    distance = torch.cdist(points.double(), template.double())
    for point in (~on_surface).nonzero()[:, 0].tolist():
        support = distance[point].topk(min(_SUPPORT, body.num_vertices), largest=False).indices.numpy(force=True)
        fitted = _affine_fit(vertices[:, support], keypoints[:, point])
        weights[point, torch.from_numpy(support).to(weights.device)] = torch.from_numpy(fitted).to(weights)
    return weights


def _random_bodies(body: ParametricBody) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vertices (P, V, 3) and keypoints (P, K, 3)."""
    generator = torch.Generator().manual_seed(_SEED)
    betas = torch.randn(_POSES, body.arrays.num_betas, generator=generator)
    pose = 0.35 * torch.randn(_POSES, body.num_pose, generator=generator)
    out = body(betas=betas.to(body.template), pose=pose.to(body.template))
    return out.vertices.double().numpy(force=True), out.keypoints.double().numpy(force=True)


def _affine_fit(vertices: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights (n,) that sum to 1. vertices: (P, n, 3).  target: (P, 3)."""
    count = vertices.shape[1]
    mean = vertices.mean(1, keepdims=True)  # sum w = 1: weights on offsets from the mean, and 1/n added back
    rows = (vertices - mean).transpose(0, 2, 1).reshape(-1, count)
    wanted = (target - mean[:, 0]).ravel()
    system = np.concatenate([rows, _RIDGE * np.eye(count)])
    offset: NDArray[np.float64] = np.linalg.lstsq(system, np.concatenate([wanted, np.zeros(count)]), rcond=None)[0]
    return offset - offset.mean() + 1 / count
