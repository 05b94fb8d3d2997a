"""Transformer blocks over mesh tokens (METRO's encoder block, arXiv 2012.09760: post-norm, learned positions)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from handface.model.network.attention import attend
from handface.model.network.config import BlockConfig


@dataclass(frozen=True)
class Tokens:
    """Tokens [xyz, features] kept in factors, because a linear map of them is cheaper before the cells are mixed.

    template: (T, 3).  cells: (B, N, C) feature cells.  mix: (T, N), bias: (T,): features of a token = mix @ cells + bias.
    mask: (T, 1) or (B, T, 1) bool or None; a masked token has every entry equal to `fill`.
    """

    template: torch.Tensor
    cells: torch.Tensor
    mix: torch.Tensor
    bias: torch.Tensor
    mask: torch.Tensor | None
    fill: float

    def project(self, linear: nn.Linear) -> torch.Tensor:
        """`linear` of every token, (B, T, out), without forming the (B, T, 3 + C) tokens.

        W [x, M F + b] + c = W_x x + M (F W_f^T) + b rowsum(W_f) + c: N rows go through W instead of T.
        """
        weight_xyz, weight_features = linear.weight[:, :3], linear.weight[:, 3:]
        constant = F.linear(self.template, weight_xyz, linear.bias) + self.bias[:, None] * weight_features.sum(1)
        projected = self.mix @ F.linear(self.cells, weight_features) + constant
        if self.mask is None:
            return projected
        masked = self.fill * linear.weight.sum(1) + linear.bias
        return torch.where(self.mask, masked.to(projected.dtype), projected)


class EncoderLayer(nn.Module):
    """Self-attention and a two-layer perceptron, each with shortcut and LayerNorm after it. (B, T, H) -> (B, T, H)."""

    def __init__(self, config: BlockConfig, dropout: float, eps: float) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, dropout
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.norm1 = nn.LayerNorm(config.width, eps=eps)
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, H) -> (B, T, H)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, heads, T, H / heads)
        attended = attend(q, k, v, self.dropout if self.training else 0.0)
        attended = self.out(attended.transpose(1, 2).flatten(2))
        x = self.norm1(x + F.dropout(attended, self.dropout, self.training))
        return self.norm2(x + F.dropout(self.fc2(F.gelu(self.fc1(x))), self.dropout, self.training))


class Block(nn.Module):
    """Project in, add positions, encode, project out, plus a linear shortcut. (B, T, inputs) -> (B, T, out)."""

    def __init__(self, inputs: int, tokens: int, config: BlockConfig, dropout: float, eps: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.embed = nn.Linear(inputs, config.width)
        self.position = nn.Parameter(torch.empty(tokens, config.width))
        self.layers = nn.ModuleList(EncoderLayer(config, dropout, eps) for _ in range(config.layers))
        self.head = nn.Linear(config.width, config.out)
        self.shortcut = nn.Linear(inputs, config.out)
        self.apply(_initialise)
        nn.init.normal_(self.position, std=0.02)

    def forward(self, x: torch.Tensor | Tokens) -> torch.Tensor:
        """(B, T, inputs) -> (B, T, out)."""
        hidden = _project(self.embed, x) + self.position
        hidden = F.dropout(hidden, self.dropout, self.training)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden) + _project(self.shortcut, x)


def _project(linear: nn.Linear, x: torch.Tensor | Tokens) -> torch.Tensor:
    return x.project(linear) if isinstance(x, Tokens) else linear(x)


def _initialise(module: nn.Module) -> None:
    """BERT's: weights N(0, 0.02), biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)


class Blocks(nn.Sequential):
    """Blocks one after another. Tokens or (B, T, inputs) -> (B, T, out of the last); MeshNet is three of them."""

    def __init__(self, inputs: int, tokens: int, blocks: tuple[BlockConfig, ...], dropout: float, eps: float) -> None:
        widths = [inputs, *(block.out for block in blocks)]
        super().__init__(
            *(Block(width, tokens, block, dropout, eps) for width, block in zip(widths, blocks, strict=False))
        )

    def zero_outputs(self, outputs: slice = slice(None)) -> None:
        """Set the last layer's weights and biases of some outputs to 0, so that a fresh network gives 0 for every token."""
        for linear in self._last:
            nn.init.zeros_(linear.weight[outputs])
            nn.init.zeros_(linear.bias[outputs])

    def bias_output(self, output: int, value: float) -> None:
        """Let one output of a fresh network start around `value`."""
        nn.init.constant_(self._last[0].bias[output : output + 1], value)

    @property
    def _last(self) -> tuple[nn.Linear, nn.Linear]:
        block = self[-1]
        assert isinstance(block, Block)
        return block.head, block.shortcut


class InteractionNet(nn.Module):
    """Tokens -> (B, T, 4): deformation vector (metres) and contact logit per token."""

    def __init__(
        self, inputs: int, narrowed: int, tokens: int, blocks: tuple[BlockConfig, ...], dropout: float, eps: float
    ) -> None:
        super().__init__()
        self.reduce = nn.Linear(inputs, narrowed)
        self.blocks = Blocks(narrowed, tokens, blocks, dropout, eps)

    def forward(self, tokens: Tokens, told: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens -> (B, T, 4). told: (B, T, narrowed), added to the narrowed tokens (`Nearness`)."""
        narrowed = tokens.project(self.reduce)
        return self.blocks(narrowed if told is None else narrowed + told)
