"""One discriminator, and the losses of generator and discriminator."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn.functional import softplus

GameKind = Literal["gan", "lsgan"]


class Discriminator(nn.Module):
    """An MLP on body parameters, inputs-256-64-1 as released. (B, D) -> logits (B,), positive for real."""

    def __init__(self, inputs: int, hidden: tuple[int, ...] = (256, 64), spectral_norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width in zip((inputs, *hidden), hidden, strict=False):
            layers += [_linear(width_in, width, spectral_norm), nn.ReLU()]
        self.inputs = inputs
        self.layers = nn.Sequential(*layers, _linear((inputs, *hidden)[-1], 1, spectral_norm))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B,). Raises ValueError for another width."""
        if values.ndim != 2 or values.shape[1] != self.inputs:
            raise ValueError(f"the discriminator judges (B, {self.inputs}), not {tuple(values.shape)}")
        logits: torch.Tensor = self.layers(values)[:, 0]
        return logits


def _linear(width_in: int, width: int, spectral_norm: bool) -> nn.Module:
    layer = nn.Linear(width_in, width)
    return nn.utils.parametrizations.spectral_norm(layer) if spectral_norm else layer


def generator_loss(fake: torch.Tensor, kind: GameKind) -> torch.Tensor:
    """Small when generated samples pass for real. fake: (B,) logits.

    gan: mean -log sigmoid(fake), the non-saturating form (Goodfellow 2014).  lsgan: mean (fake - 1)^2 / 2 (Mao 2017, eq. 9).
    """
    return softplus(-fake).mean() if kind == "gan" else 0.5 * (fake - 1).square().mean()


def discriminator_loss(real: torch.Tensor, fake: torch.Tensor, kind: GameKind) -> torch.Tensor:
    """Small when both are told apart. real: (R,) and fake: (B,) logits.

    gan: mean -log sigmoid(real) + mean -log(1 - sigmoid(fake)).  lsgan: mean (real - 1)^2 / 2 + mean fake^2 / 2.
    """
    if kind == "gan":
        return softplus(-real).mean() + softplus(fake).mean()
    return 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()


def r1_penalty(logits: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of |d logit / d values|^2 / 2 at real samples (Mescheder 2018, eq. 9 with gamma 1).

    logits: (B,) made from values: (B, D), which requires grad. The result can be differentiated again.
    """
    (slope,) = torch.autograd.grad(logits.sum(), values, create_graph=True)
    return 0.5 * slope.square().sum(1).mean()
