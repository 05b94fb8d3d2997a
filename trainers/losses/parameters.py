"""L_mesh, parameters: beta and theta of the hand; beta, psi and the turned joints of the head."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from handface.trainers.losses.reduce import l1


def parameters(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """0.5 sum of L1 over betas, hand pose, shape, expression and head joints: coefficients and radians, (B,).

    pairs: predicted and true, (B, n) each. Orientation and translation are supervised through the vertices alone.
    """
    return 0.5 * torch.stack([l1(predicted, true) for predicted, true in pairs]).sum(0)
