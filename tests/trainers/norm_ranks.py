"""What each of three ranks does in the test of batch normalisation."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from handface.trainers.distributed.batchnorm import RankBatchNorm, all_gather


def normalise(mine: torch.Tensor) -> dict[str, torch.Tensor]:
    """What comes out of a norm, its gradients with all ranks' losses counted, and its running statistics."""
    torch.manual_seed(1)
    norm = RankBatchNorm(3)
    norm.gather = all_gather
    nn.init.normal_(norm.weight)
    x = mine.clone().requires_grad_(True)
    y = norm(x)
    y.pow(3).sum().backward()
    for parameter in norm.parameters():
        dist.all_reduce(parameter.grad)
    gradients = {"x": x.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    return {"y": y.detach(), **gradients, "mean": norm.running_mean, "var": norm.running_var}


def norm_rank(folder: Path) -> None:
    """Normalise this rank's share and leave what came out in the folder."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    mine = (torch.randn(6, 3, 4, 4) * 2 + 5).split([3, 2, 1])[rank]  # uneven on purpose
    torch.save(normalise(mine), folder / f"{rank}.pt")
    dist.destroy_process_group()
