"""MobileNetV2 up to its last feature map (Sandler et al. 2018, arXiv 1801.04381).

Parameters have the names of torchvision's ImageNet weights, with `layers` for `features`.
"""

from __future__ import annotations

import torch
from torch import nn

from handface.model.network.config import MobileNetConfig

# expansion, channels, repeats, stride of the first (the paper's table 2)
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_LAST = 1280


def conv_norm_relu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU6."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; a shortcut where the shape stays. (B, C, h, w) -> (B, C', h', w')."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [conv_norm_relu(inputs, hidden, 1)]
        layers += [conv_norm_relu(hidden, hidden, 3, stride, hidden)]
        layers += [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*layers)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C', h', w')."""
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNet(nn.Module):
    """(B, 3, S, S) -> (B, features, S / 32, S / 32)."""

    stride = 32

    def __init__(self, config: MobileNetConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [conv_norm_relu(3, 32, 3, 2)]
        channels = 32
        for expansion, outputs, repeats, stride in _STAGES:
            for repeat in range(repeats):
                layers.append(InvertedResidual(channels, outputs, stride if repeat == 0 else 1, expansion))
                channels = outputs
        layers.append(conv_norm_relu(channels, _LAST, 1))
        self.layers = nn.Sequential(*layers)
        self.features = config.features
        self.narrow = nn.Conv2d(_LAST, config.features, 1)
        # a fresh network sees the points only, if it has any, so that what it learned from them stays right when pictures come
        for parameter in self.narrow.parameters():
            nn.init.zeros_(parameter)
        self.frozen = config.frozen
        if config.frozen:
            self.layers.requires_grad_(False)

    def train(self, mode: bool = True) -> MobileNet:
        """Frozen layers stay as they are, their norms' statistics too."""
        super().train(mode)
        if self.frozen:
            self.layers.eval()
        return self

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) -> (B, features, h, w)."""
        return self.narrow(self.layers(image))
