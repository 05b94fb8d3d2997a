"""Depth Anything as its papers describe it (DINOv2 encoder, DPT head), with the tensors' names of its authors' files."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT / (width // self.heads) ** 0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(batch, count, width))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, 1e-6), nn.LayerNorm(width, 1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)
        self.ls1, self.ls2 = Scale(width), Scale(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int, blocks: int, grid: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid * grid, width) * 0.1)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, 14, 14)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width, 1e-6)

    def forward(self, pixels: torch.Tensor, taken: list[int]) -> list[torch.Tensor]:
        x = self.patch_embed.proj(pixels).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        found = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in taken:
                found.append(self.norm(x)[:, 1:])
        return found


class ResConfUnit(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(functional.relu(self.conv1(functional.relu(x))))


class Refine(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(width, width, 1)
        self.resConfUnit1, self.resConfUnit2 = ResConfUnit(width), ResConfUnit(width)

    def forward(self, x: torch.Tensor, other: torch.Tensor | None, size: tuple[int, int] | None) -> torch.Tensor:
        if other is not None:
            x = x + self.resConfUnit1(other)
        x = self.resConfUnit2(x)
        size = size or (2 * x.shape[2], 2 * x.shape[3])
        return self.out_conv(functional.interpolate(x, size, mode="bilinear", align_corners=True))


class Head(nn.Module):
    def __init__(self, width: int, features: int, neck: list[int], metric: bool) -> None:
        super().__init__()
        self.projects = nn.ModuleList(nn.Conv2d(width, out, 1) for out in neck)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(neck[0], neck[0], 4, 4),
                nn.ConvTranspose2d(neck[1], neck[1], 2, 2),
                nn.Identity(),
                nn.Conv2d(neck[3], neck[3], 3, 2, 1),
            ]
        )
        self.scratch = nn.Module()
        for number, out in enumerate(neck, 1):
            setattr(self.scratch, f"layer{number}_rn", nn.Conv2d(out, features, 3, 1, 1, bias=False))
            setattr(self.scratch, f"refinenet{number}", Refine(features))
        self.scratch.output_conv1 = nn.Conv2d(features, features // 2, 3, 1, 1)
        last = nn.Sigmoid() if metric else nn.ReLU()
        self.scratch.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 1, 1), last
        )

    def forward(self, tokens: list[torch.Tensor], rows: int, columns: int) -> torch.Tensor:
        maps = []
        for number, x in enumerate(tokens):
            x = self.projects[number](x.mT.unflatten(2, (rows, columns)))
            maps.append(getattr(self.scratch, f"layer{number + 1}_rn")(self.resize_layers[number](x)))
        x = None
        for number in (4, 3, 2, 1):
            size = maps[number - 2].shape[2:] if number > 1 else None
            refine = getattr(self.scratch, f"refinenet{number}")
            x = refine(maps[3], None, size) if x is None else refine(x, maps[number - 1], size)
        x = self.scratch.output_conv1(x)
        x = functional.interpolate(x, (14 * rows, 14 * columns), mode="bilinear", align_corners=True)
        return self.scratch.output_conv2(x)[:, 0]


class DepthAnythingReference(nn.Module):
    """taken: blocks, from 1, that the head looks at.  metres: that 1 stands for; None gives disparity."""

    def __init__(self, taken: list[int], width: int = 128, blocks: int = 12, metres: float | None = None) -> None:
        super().__init__()
        torch.manual_seed(blocks)
        self.pretrained = Encoder(width, width // 64, blocks, 5)
        self.depth_head = Head(width, 16, [8, 12, 16, 20], metres is not None)
        self.taken, self.metres = taken, metres or 1.0

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        rows, columns = pixels.shape[2] // 14, pixels.shape[3] // 14
        return self.depth_head(self.pretrained(pixels, self.taken), rows, columns) * self.metres
