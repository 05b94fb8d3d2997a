"""One number per sample, so that a batch's mean can be taken over all ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Term:
    """A loss of every sample. values: (B,), not yet weighted.  mask: (B,) bool, which of them count."""

    values: torch.Tensor
    mask: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        """Sum over the samples that count, scalar; exactly 0, with a gradient of 0, if none does."""
        return torch.where(self.mask, self.values, 0.0).sum()

    @property
    def count(self) -> torch.Tensor:
        """How many samples count, scalar."""
        return self.mask.sum().to(self.values.dtype)


def l1(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference over everything but the batch, (B,)."""
    return (predicted - target).abs().flatten(1).mean(1)


def masked_mean(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean over the last axis; 0 where all weights are 0. values, weight: (..., N) -> (...)."""
    total = weight.sum(-1)
    return (values * weight).sum(-1) / torch.where(total > 0, total, 1.0)
