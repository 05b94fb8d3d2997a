"""L_interaction, touch: surfaces that are said to touch are drawn together."""

from __future__ import annotations

import torch

from handface.trainers.geometry import compact, nearest_vertex, take
from handface.trainers.losses.reduce import Term, masked_mean


def touch(hand: torch.Tensor, head: torch.Tensor, hand_contact: torch.Tensor, head_contact: torch.Tensor) -> Term:
    """mean_i min_j |f_i - h_j|^2 + mean_j min_i |h_j - f_i|^2 over touching hand vertices h and head vertices f, square metres.

    hand: (B, Vh, 3) and head: (B, Vf, 3) P meshes.  *_contact: (B, V) bool, predicted probability > 0.5 (no gradient goes there).
    Samples where either side has no touching vertex do not count.
    """
    index, mine = compact(hand_contact)
    h = take(hand, index)
    index, theirs = compact(head_contact)
    f = take(head, index)
    values = masked_mean(nearest_vertex(f, h, mine), theirs.to(f.dtype))
    values = values + masked_mean(nearest_vertex(h, f, theirs), mine.to(f.dtype))
    return Term(values, mine.any(1) & theirs.any(1))
