"""The small heads: camera, presence of contact, body parameters."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from handface.model.network.config import CameraConfig, RegressorConfig
from handface.model.network.topology import PartSizes

_NARROWED = 64


class CameraHead(nn.Module):
    """Coordinates of all tokens -> weak-perspective camera. (B, T, 3) -> (B, 3)."""

    def __init__(self, tokens: int, config: CameraConfig) -> None:
        super().__init__()
        self.config = config
        self.per_token = nn.Linear(3, 1)
        self.mix = nn.Linear(tokens, config.hidden)
        self.out = _camera_output(config)

    def forward(self, coordinates: torch.Tensor) -> torch.Tensor:
        """(B, T, 3) -> (B, 3): s (pixels per metre), tx, ty (pixels of the crop); u = s X + tx, v = s Y + ty."""
        return _camera(self.out(self.mix(self.per_token(coordinates)[..., 0])), self.config)


class CellCamera(nn.Module):
    """Feature cells -> weak-perspective camera. (B, N, C) -> (B, 3)."""

    def __init__(self, features: int, cells: int, config: CameraConfig) -> None:
        super().__init__()
        self.config = config
        self.narrow = nn.Sequential(nn.Linear(features, _NARROWED), nn.ReLU())
        self.read = nn.Sequential(nn.Linear(cells * _NARROWED, config.hidden), nn.ReLU())
        self.out = _camera_output(config)
        nn.init.normal_(self.out.weight, std=1e-3)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, 3): s, tx, ty as of `CameraHead`."""
        return _camera(self.out(self.read(self.narrow(cells).flatten(1))), self.config)


def _camera_output(config: CameraConfig) -> nn.Linear:
    out = nn.Linear(config.hidden, 3)
    with torch.no_grad():
        out.bias.add_(torch.tensor(config.start))
    return out


def _camera(raw: torch.Tensor, config: CameraConfig) -> torch.Tensor:
    """Raw numbers (B, 3) -> s, tx, ty."""
    return torch.cat([config.scale * raw[:, :1].abs(), config.shift * raw[:, 1:] + config.offset], 1)


class PresenceHead(nn.Module):
    """Feature cells -> logit that hand and face touch at all. (B, N, C) -> (B,)."""

    def __init__(self, features: int, cells: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width in zip((features, *widths), widths, strict=False):
            layers += [nn.Linear(width_in, width), nn.ReLU()]
        self.cell = nn.Sequential(*layers, nn.Linear(widths[-1], 1))
        self.pool = nn.Linear(cells, 1)

    def forward(self, cells: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B,)."""
        return self.pool(self.cell(cells)[..., 0])[:, 0]


class BodyParameters(NamedTuple):
    """Parameters of one part: betas (B, S), expression (B, E), pose (B, P) axis-angle, global_orient (B, 3), transl (B, 3) metres."""

    betas: torch.Tensor
    expression: torch.Tensor
    pose: torch.Tensor
    global_orient: torch.Tensor
    transl: torch.Tensor


NORMS: dict[str, type[nn.BatchNorm1d] | type[nn.LayerNorm]] = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}


class _Residual(nn.Module):
    def __init__(self, width: int, norm: str) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, width), NORMS[norm](width), nn.ReLU(), nn.Linear(width, width), NORMS[norm](width)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.layers(x))


class ParameterRegressor(nn.Module):
    """Predicted vertices -> body parameters (IKNet). (B, V, 3) -> BodyParameters."""

    def __init__(self, vertices: int, part: PartSizes, config: RegressorConfig) -> None:
        super().__init__()
        hidden = config.hidden
        self.split = (part.betas, part.expression, part.pose, 3, 3)
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(3 * vertices, hidden), NORMS[config.norm](hidden), nn.ReLU()),
            _Residual(hidden, config.norm),
            _Residual(hidden, config.norm),
            nn.Linear(hidden, sum(self.split)),
        )

    def forward(self, vertices: torch.Tensor) -> BodyParameters:
        """(B, V, 3) metres, not centred -> BodyParameters."""
        return BodyParameters(*self.layers(vertices.flatten(1)).split(self.split, 1))
