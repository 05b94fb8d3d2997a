"""An affine map per body part, for networks small enough to train without a cluster: not in the paper, off in `dice-w64`.

Attention and perceptrons learn only slowly to turn a mesh and to tell how it is turned. So that they need not: `PlacementHead` puts
the template where the picture wants it, tokens drawing what is left; `AlignedRegressor` takes the rotation from the drawn vertices
in closed form and reads shape and pose from the mesh in its own axes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from handface.model.bodies.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from handface.model.network.config import FACING, HAND_AT_FACE, PlacementConfig, RegressorConfig
from handface.model.network.heads import BodyParameters, ParameterRegressor
from handface.model.network.topology import PartSizes, PartTopology, TopologyError

_POLAR_STEPS = 12  # from singular values of 0.1 to orthogonal in float32
_SPREAD, _OFFSET, _TURN = 0.05, 0.01, 0.3  # metres, metres, radians: what inputs and outputs differ by between people


class PlacementHead(nn.Module):
    """Feature cells -> where the template's parts are: x -> A (x + b) + t, A and t per part, b per token if the configuration bends.

    (B, N, C), (T, 3) -> (B, T, 3). Starts with the same place for every image, that of `PlacementConfig`, and nothing bent.
    """

    def __init__(self, features: int, cells: int, groups: tuple[int, int, int, int], config: PlacementConfig) -> None:
        super().__init__()
        self.groups = list(groups)
        self.narrow = nn.Sequential(nn.Linear(features, config.narrowed), nn.ReLU())
        self.read = nn.Sequential(nn.Linear(cells * config.narrowed, config.hidden), nn.ReLU())
        self.out = nn.Linear(config.hidden, 24)
        self.bend = nn.Linear(config.hidden, 3 * sum(groups)) if config.bends else None
        if self.bend is not None:
            nn.init.zeros_(self.bend.weight)
            nn.init.zeros_(self.bend.bias)
        nn.init.normal_(self.out.weight, std=1e-3)
        turns = axis_angle_to_matrix(torch.tensor([config.hand_orient, config.head_orient]))
        centres = torch.tensor([config.hand_centre, (0.0, 0.0, 0.0)])
        with torch.no_grad():
            self.out.bias.copy_(torch.cat([turns, centres[..., None]], 2).flatten())

    def forward(self, cells: torch.Tensor, template: torch.Tensor) -> torch.Tensor:
        """cells: (B, N, C).  template: (T, 3), each part about its own mean. -> (B, T, 3) metres, camera axes."""
        hidden = self.read(self.narrow(cells).flatten(1))
        hand, head = self.out(hidden).unflatten(1, (2, 3, 4)).unbind(1)  # each [A t], (B, 3, 4)
        rest = template
        if self.bend is not None:
            rest = template + _SPREAD * self.bend(hidden).reshape(-1, *template.shape)
        parts = zip(rest.split(self.groups, -2), (hand, head, hand, head), strict=True)
        return torch.cat([points @ place[..., :3].transpose(1, 2) + place[:, None, :, 3] for points, place in parts], 1)


def build_regressor(
    part: Literal["hand", "head"], sizes: PartSizes, config: RegressorConfig, topology: PartTopology | None
) -> ParameterRegressor | AlignedRegressor:
    """The regressor that `config` asks for. Raises TopologyError if it is to read a mesh level that it cannot."""
    level = config.hand_level if part == "hand" else config.head_level
    if not config.aligned:
        return ParameterRegressor(sizes.vertices[level], sizes, config)
    if level != (coarsest := len(sizes.vertices) - 1):
        raise TopologyError(
            f"the aligned regressor of the {part} reads the coarsest mesh, level {coarsest} of {sizes.body}, not {level}"
        )
    return AlignedRegressor(sizes.vertices[level], sizes, config, HAND_AT_FACE if part == "hand" else FACING, topology)


class AlignedRegressor(nn.Module):
    """Predicted vertices -> body parameters, rotation by least squares. (B, V, 3) -> BodyParameters."""

    pivot: torch.Tensor
    centre: torch.Tensor

    def __init__(
        self,
        vertices: int,
        part: PartSizes,
        config: RegressorConfig,
        near: tuple[float, float, float],
        topology: PartTopology | None,
    ) -> None:
        """near: rotation, axis-angle, on whose side global_orient is given (the one next to it, turned by 2 pi, means the same).

        With random weights the body is posed where the vertices are, of mean shape and at rest, if the topology is known.
        """
        super().__init__()
        self.near = near
        self.local = ParameterRegressor(vertices, part, config)
        last = self.local.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.register_buffer("pivot", torch.zeros(3))
        self.register_buffer("centre", torch.zeros(3))
        if topology is not None and topology.pivot is not None:
            self.pivot.copy_(torch.from_numpy(topology.pivot))
            self.centre.copy_(torch.from_numpy(topology.coarse.mean(0)))

    def forward(self, vertices: torch.Tensor, rest: torch.Tensor) -> BodyParameters:
        """vertices: (B, V, 3) metres, camera axes.  rest: (V, 3) the same vertices of the template. -> BodyParameters."""
        if vertices.dtype in (torch.bfloat16, torch.float16):
            vertices = vertices.float()  # and no matmul below, which autocast would narrow
        rest = rest - rest.mean(0)
        centre = vertices.mean(1)  # (B, 3)
        about = vertices - centre[:, None]
        turn = polar_factor(fit_affine(rest, about))  # (B, 3, 3)
        shape = (matmul(about, turn) - rest) / _SPREAD
        betas, expression, pose, remaining, offset = self.local(shape)
        turn = matmul(turn, axis_angle_to_matrix(_TURN * remaining.to(centre)))
        offset = _OFFSET * offset.to(centre) + self.pivot - self.centre  # rest x goes to R (x - pivot) + pivot + transl
        return BodyParameters(
            betas,
            expression,
            _TURN * pose,
            matrix_to_axis_angle(turn, self.near),
            centre + matmul(offset[:, None], turn.transpose(1, 2))[:, 0] - self.pivot,
        )


def matmul(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Matrix product of narrow matrices in full precision whatever autocast says. (..., n, k), (..., k, m) -> (..., n, m)."""
    return (left[..., None] * right[..., None, :, :]).sum(-2)


def fit_affine(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """M with target ~ M source in least squares. source: (V, 3), target: (B, V, 3), both about their means -> (B, 3, 3)."""
    spread = matmul(source.t(), source)  # (3, 3), symmetric
    a, b, c = spread.unbind(0)
    cofactors = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)])
    inverse = cofactors / (a * cofactors[0]).sum()  # torch.linalg.inv would wait for the device
    return matmul((target[..., :, None] * source[:, None, :]).sum(1), inverse)


def polar_factor(matrix: torch.Tensor) -> torch.Tensor:
    """The orthogonal polar factor, by Newton-Schulz: X <- 1.5 X - 0.5 X X^T X. (B, 3, 3) -> (B, 3, 3); a reflection stays one."""
    x = matrix / matrix.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-12)
    for _ in range(_POLAR_STEPS):
        x = 1.5 * x - 0.5 * matmul(matmul(x, x.transpose(1, 2)), x)
    return x
