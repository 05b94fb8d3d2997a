"""L_interaction, contact: which vertices touch, and whether any does."""

from __future__ import annotations

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from handface.trainers.losses.config import Balance
from handface.trainers.losses.reduce import masked_mean

_LEVEL = 0.2
_CLAMPED_LOGIT = 11.512915  # of the released code's largest probability, 1 - 1e-5


def level_contact(logits: torch.Tensor, labels: torch.Tensor, balance: Balance = "plain") -> torch.Tensor:
    """BCE(sigma(x_v), c_v), nats: the means over touching vertices and over the others, weighed. (B, V) each -> (B,).

    With P vertices that touch and N that do not, P : N is the plain mean over all (1 of 22 of the hand touches in Decaf: a network that
    is not sure says no), 1 : 1 is balanced (it says yes to too many), and sqrt(P) : sqrt(N), the root, lies between: 0.5 then stands for
    a probability of 1 / (1 + sqrt(N / P)). F1 is best with a threshold of half the F1 within reach (Lipton et al. 2014).
    A sample in which none or all touch has its plain mean.
    """
    entropy = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    if balance == "plain":
        return entropy.mean(1)
    touching, others = labels.sum(1), (1 - labels).sum(1)
    share = 0.5 if balance == "balanced" else touching.sqrt() / (touching.sqrt() + others.sqrt())
    both = share * masked_mean(entropy, labels) + (1 - share) * masked_mean(entropy, 1 - labels)
    return torch.where((touching == 0) | (others == 0), entropy.mean(1), both)


def contact(
    hand: tuple[torch.Tensor, ...],
    head: tuple[torch.Tensor, ...],
    true_hand: tuple[torch.Tensor, ...],
    true_head: tuple[torch.Tensor, ...],
    balance: Balance = "plain",
    clamped: bool = False,
) -> torch.Tensor:
    """0.2 sum of `level_contact` over all levels of hand and head, nats. Levels of (B, V_l) -> (B,).

    clamped: probabilities in [1e-5, 1 - 1e-5], as released, where there is no gradient beyond.
    """
    pairs = [*zip(hand, true_hand, strict=True), *zip(head, true_head, strict=True)]
    if clamped:
        pairs = [(logits.clamp(-_CLAMPED_LOGIT, _CLAMPED_LOGIT), labels) for logits, labels in pairs]
    return _LEVEL * torch.stack([level_contact(logits, labels, balance) for logits, labels in pairs]).sum(0)


def presence(logit: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """BCE(sigma(x), any contact), nats. (B,) each -> (B,)."""
    return binary_cross_entropy_with_logits(logit, label, reduction="none")
