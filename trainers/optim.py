"""AdamW, its schedule, clipping, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from handface.trainers.config import OptimConfig


def make_optimizer(module: nn.Module, lr: float, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over a module; vectors (biases, norms, positions of a token) do not decay."""
    matrices = [p for p in module.parameters() if p.ndim >= 2]
    vectors = [p for p in module.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    fused = any(p.is_cuda for p in module.parameters())
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=config.betas, fused=fused)


def lr_factor(step: int, steps: int, config: OptimConfig) -> float:
    """Factor of the learning rate in a step (0-based) of `steps`."""
    warm_up = config.warm_up_of(steps)
    if step < warm_up:
        return (step + 1) / warm_up
    if config.schedule == "step":
        return 1.0 if step < steps / 2 else 0.1
    if config.schedule == "cosine":
        done = (step - warm_up) / max(1, steps - warm_up)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return 1.0


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use a learning rate from now on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clip(parameters: Iterable[nn.Parameter], config: OptimConfig) -> torch.Tensor:
    """Bound gradients in place, as configured; returns their norm as it was, a scalar."""
    held = [p for p in parameters if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in held if p.grad is not None])
    if config.clip_value is not None:
        nn.utils.clip_grad_value_(held, config.clip_value)
    if config.clip_norm is not None:
        nn.utils.clip_grad_norm_(held, config.clip_norm)
    return norm


class EMA:
    """Exponential moving average of a module's parameters; other state is taken as it is. The average warms up with the steps."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Add a step's weights."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        current = module.state_dict()
        trained = {name for name, _ in module.named_parameters()}
        averaged = [self.state[name] for name in trained]
        torch._foreach_lerp_(averaged, [current[name].detach() for name in trained], 1 - decay)
        for name in self.state.keys() - trained:
            self.state[name].copy_(current[name])

    def load(self, state: Mapping[str, torch.Tensor], steps: int) -> None:
        """Go on from a saved average."""
        self.steps = steps
        for name, value in state.items():
            self.state[name].copy_(value)
