"""L_mesh, vertices: the network's own meshes at every level (NP) and the bodies posed by its parameters (P)."""

from __future__ import annotations

import torch

from handface.trainers.losses.reduce import l1

_LEVEL = 0.2


def level_vertices(predicted: tuple[torch.Tensor, ...], target: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """sum_l 0.2 L1(V_l, V_l*) + 0.2 L1(V_l - mean V_l, V_l* - mean V_l*), metres. Levels of (B, V_l, 3) -> (B,)."""
    values = []
    for mine, true in zip(predicted, target, strict=True):
        values += [l1(mine, true), l1(mine - mine.mean(1, keepdim=True), true - true.mean(1, keepdim=True))]
    return _LEVEL * torch.stack(values).sum(0)


def drawn_vertices(
    hand: tuple[torch.Tensor, ...],
    head: tuple[torch.Tensor, ...],
    true_hand: tuple[torch.Tensor, ...],
    true_head: tuple[torch.Tensor, ...],
) -> torch.Tensor:
    """NP: 4 (3 hand + head), each as in `level_vertices`, metres; the true head is undeformed. -> (B,)."""
    return 4 * (3 * level_vertices(hand, true_hand) + level_vertices(head, true_head))


def parametric_vertices(
    hand: torch.Tensor, head: torch.Tensor, true_hand: torch.Tensor, true_head: torch.Tensor
) -> torch.Tensor:
    """P: 3 L1 hand + L1 undeformed head, metres. (B, V, 3) each -> (B,)."""
    return 3 * l1(hand, true_hand) + l1(head, true_head)
