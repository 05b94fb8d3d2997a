"""L_interaction, collision: hand vertices inside the head are pushed out."""

from __future__ import annotations

import torch

from handface.trainers.geometry import compact, inside, nearest_surface, nearest_vertex, take
from handface.trainers.losses.reduce import masked_mean

_MM = 1e3  # millimetres per metre


def collision(
    hand: torch.Tensor, head: torch.Tensor, closed: torch.Tensor, faces: torch.Tensor, at_vertex: torch.Tensor
) -> torch.Tensor:
    """How deep the hand vertices inside the head are on average, millimetres; 0 where none is.

    A vertex is pushed as hard at 1 mm as at 20 (the gradient of a mean depth has length 1 per millimetre of the whole hand), unlike
    the released sum of squares over all head vertices, which is a thousand times weaker than touch at 10 mm.

    Args:
        hand: (B, Vh, 3) metres.
        head: (B, Vf, 3) metres, deformed.
        closed: (F + C, 3) triangles of the closed head, for the inside test, which has no gradient.
        faces: (F, 3) of the surface that depth is measured to: without caps, as nobody leaves a head through the neck.
        at_vertex: (Vf, D) of those faces, see `vertex_faces`.

    Returns:
        (B,) millimetres.
    """
    index, deep = compact(inside(hand, head, closed))
    square = nearest_surface(take(hand, index), head, faces, at_vertex, deep)
    depth = torch.where(deep, square, 1.0).clamp(min=1e-12).sqrt()  # a micrometre: the root has no gradient at 0
    return _MM * masked_mean(depth, deep.to(depth.dtype))


def squared_collision(hand: torch.Tensor, head: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
    """As the paper has it: sum over hand vertices inside of their squared distance to the nearest head vertex, over the number of
    head vertices; square metres, (B,). Shapes as in `collision`.
    """
    index, deep = compact(inside(hand, head, closed))
    return torch.where(deep, nearest_vertex(take(hand, index), head), 0.0).sum(1) / head.shape[1]


def released_collision(hand: torch.Tensor, head: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
    """What the released code computes, for ablation: the inside flags, 0 or 1, are used as indices, so that hand vertices 0 and 1
    are drawn to the head whatever collides. Shapes and units as in `squared_collision`.
    """
    colliding = inside(hand, head, closed).sum(1).to(hand.dtype)
    square = nearest_vertex(hand[:, :2], head)  # (B, 2)
    return ((hand.shape[1] - colliding) * square[:, 0] + colliding * square[:, 1]) / head.shape[1]
