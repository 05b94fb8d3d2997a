"""Levenberg-Marquardt on B small problems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from handface.model.fitting.energy import Quadratic

_FIRST_DAMPING, _LEAST, _MOST = 1e-2, 1e-5, 1e6
RIDGE = 1e-9  # of the largest diagonal entry: what nothing holds stays where it is


def minimise(
    energy: Callable[[torch.Tensor], Quadratic], start: torch.Tensor, steps: int, tolerance: float = 1e-3
) -> tuple[torch.Tensor, torch.Tensor]:
    """Variables (B, P) -> better ones and their cost (B,); never worse ones.

    Each problem stops by itself once a step gains less than `tolerance` of its cost, so that its answer does not depend on the
    others. Damping is Marquardt's: relative to the matrix's diagonal, smaller after a good step, larger after a bad one, per problem.
    """
    x, here = start, energy(start)
    damping = torch.full_like(here.cost, _FIRST_DAMPING)
    done = torch.zeros_like(here.cost, dtype=torch.bool)
    for _ in range(steps):
        step, usable = newton_step(here, damping)
        trial = x - torch.where(usable[:, None], step, 0.0)
        there = energy(trial)
        better = usable & (there.cost < here.cost) & ~done
        gain = torch.where(better, (here.cost - there.cost) / here.cost.clamp(min=1e-9), 0.0)
        x = torch.where(better[:, None], trial, x)
        here = _chosen(better, there, here)
        damping = torch.where(better, damping / 4, damping * 8).clamp(_LEAST, _MOST)
        done |= (gain < tolerance) & (better | (damping >= 10))
        if bool(done.all()):
            break
    return x, here.cost


def newton_step(here: Quadratic, damping: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(M + damping diag M)^-1 gradient (B, P), and where it could be found, (B,). The blocks are solved alone, the link by Sherman and Morrison."""
    sizes = [block.shape[1] for block in here.blocks]
    diagonal = torch.cat([block.diagonal(dim1=1, dim2=2) for block in here.blocks], 1) + here.link.square()
    ridge = damping[:, None] * diagonal + RIDGE * diagonal.amax(1, keepdim=True)
    steps, usable = [], torch.ones_like(damping, dtype=torch.bool)
    sides = torch.stack([here.gradient, here.link], 2)  # (B, P, 2)
    for block, more, side in zip(here.blocks, ridge.split(sizes, 1), sides.split(sizes, 1), strict=True):
        damped = block.clone()
        damped.diagonal(dim1=1, dim2=2).add_(more)
        factor, failed = torch.linalg.cholesky_ex(damped)
        steps.append(torch.cholesky_solve(side, factor))
        usable &= failed == 0
    by_gradient, by_link = torch.cat(steps, 1).unbind(2)
    share = (here.link * by_gradient).sum(1) / (1 + (here.link * by_link).sum(1))
    step = by_gradient - share[:, None] * by_link
    return step, usable & torch.isfinite(step).all(1)


def _chosen(better: torch.Tensor, there: Quadratic, here: Quadratic) -> Quadratic:
    """Per problem, there where it is better (B,), else here."""

    def choose(new: torch.Tensor, old: torch.Tensor) -> torch.Tensor:
        return torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old)

    hand, head = (choose(*pair) for pair in zip(there.blocks, here.blocks, strict=True))
    return Quadratic(
        choose(there.cost, here.cost),
        choose(there.gradient, here.gradient),
        (hand, head),
        choose(there.link, here.link),
    )
