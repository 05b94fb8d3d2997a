"""Batch normalisation over the samples of all ranks, on CPU too (torch's SyncBatchNorm needs a GPU)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as functional
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Gather = Callable[[torch.Tensor], torch.Tensor]
"""(n,) on each rank -> (world, n), the same on all ranks; all ranks call it."""


def all_gather(values: torch.Tensor) -> torch.Tensor:
    """A `Gather` over the process group."""
    held = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(held, values)
    return torch.stack(held)


class _OverRanks(torch.autograd.Function):
    """One exchange forward and one backward: a network has hundreds of norms, and ranks wait for each other in every exchange."""

    @staticmethod
    def forward(
        ctx: Any, gather: Gather, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float
    ) -> tuple[torch.Tensor, ...]:
        """x (B, C, ...), weight and bias (C,) -> y like x; mean, variance (C,) and count () over all ranks.

        Each rank's moments about its own mean, joined as Chan, Golub and LeVeque (1983) do.
        """
        mean, square = _moments(x)
        mine = torch.cat([mean, square, mean.new_full((1,), x.numel() / x.shape[1])])
        means, squares, counts = gather(mine).split([len(mean), len(mean), 1], 1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (squares + counts * (means - mean).square()).sum(0) / count
        ctx.gather, ctx.eps = gather, eps
        ctx.save_for_backward(x, weight, mean, variance, torch.rsqrt(variance + eps), count)
        ctx.mark_non_differentiable(mean, variance, count)
        return functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """x's gradient counts all ranks' losses; those of weight and bias are this rank's, as of any other layer."""
        x, weight, mean, variance, scale, count = ctx.saved_tensors
        dy = gradients[0]
        _, dw, db = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        total = ctx.gather(torch.cat([dw, db])).sum(0)
        gain = scale if weight is None else scale * weight
        slope, dy_mean = (total / count).chunk(2)
        dx = dy * gain.view([1, -1, *[1] * (x.ndim - 2)])
        dx -= functional.batch_norm(x, mean, variance, gain * slope, gain * dy_mean, False, 0.0, ctx.eps)
        return None, dx, None if weight is None else dw, None if weight is None else db, None


def _moments(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and summed squared deviation per channel, (C,) each, of x (B, C, ...).

    By rows of one sample and channel, which lie together in memory: on a CPU much faster than `torch.var_mean` over all axes.
    """
    rows = x.reshape(*x.shape[:2], -1)
    count, means = rows.shape[2], rows.mean(2)
    within = (torch.linalg.vector_norm(rows, dim=2).square() - count * means.square()).clamp(min=0)
    mean = means.mean(0)
    return mean, within.sum(0) + count * (means - mean).square().sum(0)


class RankBatchNorm(_BatchNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, mean and variance over all ranks' batches while training."""

    gather: Gather | None = None
    """How ranks exchange moments; without it, an ordinary norm."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> the same shape."""
        if not self.training or self.gather is None:
            return super().forward(input)
        y, mean, variance, count = _OverRanks.apply(self.gather, input.float(), self.weight, self.bias, self.eps)
        self._remember(mean, variance * count / (count - 1))
        return y.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)


def synchronise_norms(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with its batch normalisations replaced; parameters, buffers and their names stay. All ranks call it."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return convert_norms(module, all_gather)


def convert_norms(module: nn.Module, gather: Gather) -> nn.Module:
    """The module with norms over ranks that exchange moments by `gather`."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            norm = RankBatchNorm(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            norm.load_state_dict(child.state_dict())
            norm.train(child.training)
            norm.gather = gather
            setattr(module, name, norm.to(child.running_mean.device))  # type: ignore[union-attr]
        else:
            convert_norms(child, gather)
    return module
