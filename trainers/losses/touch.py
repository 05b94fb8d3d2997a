"""L_interaction, touch: surfaces that are said to touch are drawn together."""

from __future__ import annotations

import torch

from handface.trainers.geometry import compact, nearest_vertex, take
from handface.trainers.losses.reduce import Term, masked_mean

_MM = 1e3  # millimetres per metre


def touch(hand: torch.Tensor, head: torch.Tensor, hand_contact: torch.Tensor, head_contact: torch.Tensor) -> Term:
    """mean_i min_j |f_i - h_j| + mean_j min_i |h_j - f_i| over touching hand vertices h and head vertices f, millimetres.

    Args:
        hand: (B, Vh, 3) metres.
        head: (B, Vf, 3) metres.
        hand_contact: (B, Vh) bool, predicted probability > 0.5; no gradient goes there.
        head_contact: (B, Vf) bool.

    Returns:
        (B,) millimetres. Samples where either side has no touching vertex do not count.
    """
    values, mask = _mean_gaps(hand, head, hand_contact, head_contact, root=True)
    return Term(_MM * values, mask)


def squared_touch(
    hand: torch.Tensor, head: torch.Tensor, hand_contact: torch.Tensor, head_contact: torch.Tensor, over_batch: bool
) -> Term:
    """The same with squared distances, square metres, as in the paper. over_batch: samples where nothing touches count, as 0."""
    values, mask = _mean_gaps(hand, head, hand_contact, head_contact, root=False)
    return Term(torch.where(mask, values, 0.0), torch.ones_like(mask)) if over_batch else Term(values, mask)


def _mean_gaps(
    hand: torch.Tensor, head: torch.Tensor, hand_contact: torch.Tensor, head_contact: torch.Tensor, root: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both means, (B,), and where there is something to take them over, (B,) bool."""
    index, mine = compact(hand_contact)
    h = take(hand, index)
    index, theirs = compact(head_contact)
    f = take(head, index)
    to_hand, to_head = nearest_vertex(f, h, mine), nearest_vertex(h, f, theirs)
    if root:  # at least a micrometre: the root has no gradient at 0
        to_hand, to_head = to_hand.clamp(min=1e-12).sqrt(), to_head.clamp(min=1e-12).sqrt()
    values = masked_mean(to_hand, theirs.to(f.dtype)) + masked_mean(to_head, mine.to(f.dtype))
    return values, mine.any(1) & theirs.any(1)
