"""L_interaction, contact: which vertices touch, and whether any does."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from trainers.losses.reduce import masked_mean

_LEVEL = 0.2


def level_contact(logits: torch.Tensor, labels: torch.Tensor, balanced: bool = False) -> torch.Tensor:
    """Mean BCE(sigma(x_v), c_v) over the vertices, nats. (B, V) each -> (B,).

    balanced: mean over touching vertices and mean over the others, half and half, so that the few that touch (1 of 22 of the hand
    in Decaf) weigh as much as all others; a sample without contact has its plain mean.
    """
    entropy = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    if not balanced:
        return entropy.mean(1)
    both = 0.5 * (masked_mean(entropy, labels) + masked_mean(entropy, 1 - labels))
    one_class = (labels.amax(1) == 0) | (labels.amin(1) == 1)
    return torch.where(one_class, entropy.mean(1), both)


def contact(
    hand: tuple[torch.Tensor, ...],
    head: tuple[torch.Tensor, ...],
    true_hand: tuple[torch.Tensor, ...],
    true_head: tuple[torch.Tensor, ...],
    balanced: bool = False,
) -> torch.Tensor:
    """0.2 sum of `level_contact` over all levels of hand and head, nats. Levels of (B, V_l) -> (B,)."""
    pairs = [*zip(hand, true_hand, strict=True), *zip(head, true_head, strict=True)]
    return _LEVEL * torch.stack([level_contact(logits, labels, balanced) for logits, labels in pairs]).sum(0)


def presence(logit: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """BCE(sigma(x), any contact), nats. (B,) each -> (B,)."""
    return binary_cross_entropy_with_logits(logit, label, reduction="none")
