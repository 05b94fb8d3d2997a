"""L_interaction, deformation D of the head's surface, metres, camera axes."""

from __future__ import annotations

import torch

_SCALE, _EMPHASIS = 100.0, 5000.0
_LARGE = 0.03  # metres


def deformation(
    predicted: torch.Tensor, target: torch.Tensor, large_weight: float = 4.0, stiffness: torch.Tensor | None = None
) -> torch.Tensor:
    """100 mean_v w_v sum_xyz (D - D*)^2 (1 + 5000 |D*|) + w_reg mean_v sum_xyz |D| 1[|D| > 3 cm]; (B,).

    predicted, target: (B, V, 3).  large_weight: w_reg.  stiffness: (V,) weights w_v of `stiffness_weights`; None: all 1, as released.
    """
    emphasis = 1 + _EMPHASIS * target.norm(dim=-1)
    square = (predicted - target).square().sum(-1) * emphasis
    if stiffness is not None:
        square = square * stiffness
    large = (predicted.detach().norm(dim=-1) > _LARGE).to(predicted.dtype)
    return _SCALE * square.mean(1) + large_weight * (predicted.abs().sum(-1) * large).mean(1)


def stiffness_weights(stiffness: torch.Tensor) -> torch.Tensor:
    """w_v = (1.1 - s_v)^-1.5 over its minimum: errors on bone cost more than on soft tissue. s in [0, 1], (V,) -> (V,)."""
    weights = (1.1 - stiffness) ** -1.5
    return weights / weights.min()


def no_deformation(predicted: torch.Tensor) -> torch.Tensor:
    """mean_v sum_xyz |D|, metres: pulls D to 0 where nothing says otherwise (wild pictures). (B, V, 3) -> (B,)."""
    return predicted.abs().sum(-1).mean(1)
