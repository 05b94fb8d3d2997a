"""HRNet classification net up to its last feature map (Wang et al. 2019, arXiv 1908.07919).

Parameter names are those of the original ImageNet weights, so that these load without renaming.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from handface.model.network.config import HRNetConfig, StageConfig


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False) -> list[nn.Module]:
    """A convolution that keeps the size (at stride 1) and its batch normalisation."""
    return [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias), nn.BatchNorm2d(outputs)]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut. (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv_norm(channels, channels, 3)
        self.conv2, self.bn2 = conv_norm(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut; 4 x planes channels come out. (B, C, h, w) -> (B, 4 planes, h, w)."""

    expansion = 4

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        outputs = planes * self.expansion
        self.conv1, self.bn1 = conv_norm(inputs, planes, 1)
        self.conv2, self.bn2 = conv_norm(planes, planes, 3)
        self.conv3, self.bn3 = conv_norm(planes, outputs, 1)
        self.downsample = nn.Sequential(*conv_norm(inputs, outputs, 1)) if inputs != outputs else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) -> (B, 4 planes, h, w)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class FusionModule(nn.Module):
    """Residual blocks in parallel branches, then every branch becomes the sum of all, resized."""

    def __init__(self, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(c) for _ in range(blocks))) for c in channels)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_resize(channels, source, target) for source in range(len(channels)))
            for target in range(len(channels))
        )

    def forward(self, branches: list[torch.Tensor]) -> list[torch.Tensor]:
        """List of (B, C_i, h / 2^i, w / 2^i) -> the same shapes."""
        branches = [block(x) for block, x in zip(self.branches, branches, strict=True)]
        fused = []
        for row in self.fuse_layers:
            total: torch.Tensor | None = None
            for resize, x in zip(row.children(), branches, strict=True):
                total = resize(x) if total is None else total + resize(x)
            assert total is not None
            fused.append(F.relu(total))
        return fused


def _resize(channels: tuple[int, ...], source: int, target: int) -> nn.Module:
    """Branch `source` at the size of branch `target`: 1x1 and nearest up, or a chain of strided 3x3 down."""
    if source == target:
        return nn.Identity()
    if source > target:
        up = nn.Upsample(scale_factor=float(2 ** (source - target)), mode="nearest")
        return nn.Sequential(*conv_norm(channels[source], channels[target], 1), up)
    inner = [
        nn.Sequential(*conv_norm(channels[source], channels[source], 3, 2), nn.ReLU())
        for _ in range(target - source - 1)
    ]
    return nn.Sequential(*inner, nn.Sequential(*conv_norm(channels[source], channels[target], 3, 2)))


class HRNetStage(nn.Sequential):
    """FusionModules one after another."""

    def __init__(self, config: StageConfig) -> None:
        super().__init__(*(FusionModule(config.channels, config.blocks) for _ in range(config.modules)))


def _transition(before: tuple[int, ...], after: tuple[int, ...]) -> nn.ModuleList:
    """What feeds each branch of the next stage: branch i from branch i, the new last one from the previous last."""
    layers: list[nn.Module] = []
    for index, channels in enumerate(after):
        if index >= len(before):
            layers.append(nn.Sequential(nn.Sequential(*conv_norm(before[-1], channels, 3, 2), nn.ReLU())))
        elif channels != before[index]:
            layers.append(nn.Sequential(*conv_norm(before[index], channels, 3), nn.ReLU()))
        else:
            layers.append(nn.Identity())
    return nn.ModuleList(layers)


class HRNet(nn.Module):
    """Image -> coarse feature map. `features` channels, 1/32 of the size."""

    stride = 32

    def __init__(self, config: HRNetConfig) -> None:
        super().__init__()
        self.features = config.features
        self.conv1, self.bn1 = conv_norm(3, config.stem, 3, 2)
        self.conv2, self.bn2 = conv_norm(config.stem, config.stem, 3, 2)
        width = config.stage1_planes * Bottleneck.expansion
        first = Bottleneck(config.stem, config.stage1_planes)
        self.layer1 = nn.Sequential(
            first, *(Bottleneck(width, config.stage1_planes) for _ in range(config.stage1_blocks - 1))
        )
        two, three, four = config.stages
        self.transition1 = _transition((width,), two.channels)
        self.stage2 = HRNetStage(two)
        self.transition2 = _transition(two.channels, three.channels)
        self.stage3 = HRNetStage(three)
        self.transition3 = _transition(three.channels, four.channels)
        self.stage4 = HRNetStage(four)
        self.incre_modules = nn.ModuleList(
            nn.Sequential(Bottleneck(channels, planes))
            for channels, planes in zip(four.channels, config.head_planes, strict=True)
        )
        outputs = [planes * Bottleneck.expansion for planes in config.head_planes]
        self.downsamp_modules = nn.ModuleList(
            nn.Sequential(*conv_norm(fine, coarse, 3, 2, bias=True), nn.ReLU())
            for fine, coarse in itertools.pairwise(outputs)
        )
        self.final_layer = nn.Sequential(*conv_norm(outputs[-1], config.features, 1, bias=True), nn.ReLU())

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised -> (B, features, S/32, S/32)."""
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.relu(self.bn2(self.conv2(x)))
        branches = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            branches = stage([layer(branches[min(i, len(branches) - 1)]) for i, layer in enumerate(transition)])
        y = self.incre_modules[0](branches[0])
        for down, widen, branch in zip(self.downsamp_modules, self.incre_modules[1:], branches[1:], strict=True):
            y = widen(branch) + down(y)
        return self.final_layer(y)
