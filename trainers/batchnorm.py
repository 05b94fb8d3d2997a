"""Batch normalisation over the samples of all ranks, on CPU too (torch's SyncBatchNorm needs a GPU)."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collective
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class RankBatchNorm(_BatchNorm):
    """y = (x - mean) / sqrt(var + eps) * weight + bias, mean and variance over all ranks' batches while training."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected (B, C, ...), got {tuple(input.shape)}")

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) -> the same shape."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        x = input.float()
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count = x.new_full((1,), x.numel() / x.shape[1])
        totals = collective.all_reduce(torch.cat([x.sum(axes), count]))
        count = totals[-1]
        mean = totals[:-1] / count
        centred = x - mean.view(shape)
        variance = collective.all_reduce(centred.square().sum(axes)) / count  # two passes: no cancellation
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum if self.momentum is not None else 1.0
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)


def over_all_ranks(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with its batch normalisations replaced; parameters, buffers and their names stay."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            norm = RankBatchNorm(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            norm.load_state_dict(child.state_dict())
            norm.train(child.training)
            setattr(module, name, norm.to(child.running_mean.device))  # type: ignore[union-attr]
        else:
            over_all_ranks(child, device)
    return module
