"""What each of two ranks does in the test of batch normalisation: `python -m tests.trainers.norm_ranks FOLDER`."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import nn

from trainers.batchnorm import RankBatchNorm

if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    torch.manual_seed(0)
    x = torch.randn(6, 3, 4, 4) * 2 + 5
    mine = (x[:4] if rank == 0 else x[4:]).clone().requires_grad_(True)  # uneven on purpose
    norm = RankBatchNorm(3)
    nn.init.normal_(norm.weight)
    y = norm(mine)
    y.pow(3).sum().backward()
    for parameter in norm.parameters():
        dist.all_reduce(parameter.grad)
    state = {"y": y.detach(), "x": mine.grad, "weight": norm.weight.grad, "bias": norm.bias.grad}
    torch.save(state | {"mean": norm.running_mean, "var": norm.running_var}, f"{sys.argv[1]}/{rank}.pt")
    dist.destroy_process_group()
