"""Levenberg-Marquardt on B small problems at once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from handface.model.fitting.energy import Quadratic

_FIRST_DAMPING, _LEAST, _MOST = 1e-2, 1e-5, 1e6


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
        diagonal = here.matrix.diagonal(dim1=1, dim2=2)
        damped = here.matrix + torch.diag_embed(
            damping[:, None] * diagonal + 1e-6 * diagonal.amax(1, keepdim=True) * 1e-3
        )
        factor, failed = torch.linalg.cholesky_ex(damped)
        step = torch.cholesky_solve(here.gradient[..., None], factor)[..., 0]
        usable = (failed == 0) & torch.isfinite(step).all(1)
        trial = x - torch.where(usable[:, None], step, 0.0)
        there = energy(trial)
        better = usable & (there.cost < here.cost) & ~done
        gain = torch.where(better, (here.cost - there.cost) / here.cost.clamp(min=1e-9), 0.0)
        x = torch.where(better[:, None], trial, x)
        here = Quadratic(
            torch.where(better, there.cost, here.cost),
            torch.where(better[:, None], there.gradient, here.gradient),
            torch.where(better[:, None, None], there.matrix, here.matrix),
        )
        damping = torch.where(better, damping / 4, damping * 8).clamp(_LEAST, _MOST)
        done |= (gain < tolerance) & (better | (damping >= 10))
        if bool(done.all()):
            break
    return x, here.cost
