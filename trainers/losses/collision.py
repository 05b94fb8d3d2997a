"""L_interaction, collision: hand vertices inside the head are pushed out."""

from __future__ import annotations

import torch

from handface.trainers.geometry import compact, inside, nearest_surface, nearest_vertex, take


def collision(
    hand: torch.Tensor,
    head: torch.Tensor,
    closed: torch.Tensor,
    faces: torch.Tensor | None = None,
    at_vertex: torch.Tensor | None = None,
) -> torch.Tensor:
    """sum over hand vertices inside the head of their squared distance to it, over the number of head vertices; square metres, (B,).

    hand: (B, Vh, 3).  head: (B, Vf, 3), deformed.  closed: (F + C, 3) triangles of the closed head, for the inside test, which has no
    gradient.  faces: (F, 3) and at_vertex: (Vf, D) of the surface that distances are taken to: without caps, as nobody leaves a
    head through the neck; None: distance to the nearest vertex, as released.
    """
    index, deep = compact(inside(hand, head, closed))
    points = take(hand, index)
    if faces is None or at_vertex is None:
        square = nearest_vertex(points, head)
    else:
        square = nearest_surface(points, head, faces, at_vertex)
    return torch.where(deep, square, 0.0).sum(1) / head.shape[1]


def released_collision(hand: torch.Tensor, head: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
    """What the released code computes, for ablation: the inside flags, 0 or 1, are used as indices, so that hand vertices 0 and 1
    are drawn to the head whatever collides. Shapes and units as in `collision`.
    """
    colliding = inside(hand, head, closed).sum(1).to(hand.dtype)
    square = nearest_vertex(hand[:, :2], head)  # (B, 2)
    return ((hand.shape[1] - colliding) * square[:, 0] + colliding * square[:, 1]) / head.shape[1]
