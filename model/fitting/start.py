"""Where a fit starts: bodies placed in closed form, the head by its 68 points, the hand by its landmarks in metres."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from handface.model.bodies.names import JAW_KEYPOINTS
from handface.model.bodies.rotation import axis_angle_to_matrix, matrix_to_axis_angle, nearest_rotation
from handface.model.fitting.config import Guess, Observations
from handface.model.fitting.energy import about_mean
from handface.model.fitting.keypoint_body import FitParameters, KeypointBody

_PALM = [0, 1, 5, 9, 13, 17]  # wrist and knuckles move as one
_NEAR_ZERO = (0.0, 0.0, 0.0)


def place_head(body: KeypointBody, guess: FitParameters, seen: Observations) -> FitParameters:
    """The guessed head turned and moved so that its keypoints lie on the seen ones under scaled orthography."""
    still = replace(guess, global_orient=torch.zeros_like(guess.transl), transl=torch.zeros_like(guess.transl))
    points = body.points(still)[:, : body.num_keypoints]
    image, weight = seen_points(seen.face)
    weight[:, :JAW_KEYPOINTS] *= 0.2
    turn, scale = scaled_orthography(points, image, weight)
    ray = ray_rotation(weighted_mean(image, weight), seen)
    turned = replace(still, global_orient=to_axis_angle(ray @ turn))
    return move_onto(body, turned, seen.face, weight, seen, seen.focal / scale)


def hand_turns(body: KeypointBody, guess: Guess, seen: Observations) -> list[FitParameters]:
    """The guessed hand in several orientations: as guessed, by its landmarks in metres, and all around unless it is roughly known."""
    hand = guess.hand
    known = torch.isfinite(seen.world).all(2).all(1)
    ray = ray_rotation(weighted_mean(*seen_points(seen.hand)), seen)
    guessed = ray @ axis_angle_to_matrix(hand.global_orient)
    turns = [guessed]
    if not guess.sure:
        axes = [(0.0, 0.0, k * math.pi / 2) for k in range(4)]
        sides = axis_angle_to_matrix(torch.tensor([(0.0, 0.0, 0.0), (0.0, math.pi, 0.0)]).to(guessed))
        around = axis_angle_to_matrix(torch.tensor(axes).to(guessed))
        turns = [turn @ side @ guessed for side in sides for turn in around]
    return [replace(hand, global_orient=to_axis_angle(turn)) for turn in turns] + [_by_world(body, hand, seen, known)]


def _by_world(body: KeypointBody, guess: FitParameters, seen: Observations, known: torch.Tensor) -> FitParameters:
    """The hand turned so that its palm lies as that of the landmarks in metres, where they are known (B,)."""
    still = replace(guess, global_orient=torch.zeros_like(guess.transl))
    points = about_mean(body.points(still)[:, _PALM])
    target = about_mean(torch.where(known[:, None, None], seen.world, 0.0)[:, _PALM])
    turned = to_axis_angle(nearest_rotation(target.mT @ points))
    return replace(guess, global_orient=torch.where(known[:, None], turned, guess.global_orient))


def place_hand(body: KeypointBody, guess: FitParameters, seen: Observations, depth: torch.Tensor) -> FitParameters:
    """The hand at a depth (B,), moved onto its points."""
    return move_onto(body, guess, seen.hand, seen_points(seen.hand)[1], seen, depth)


def seen_points(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (B, K, 2), 0 where a point was not seen, and weights (B, K)."""
    return torch.where(points[..., 2:] > 0, points[..., :2], 0.0), points[..., 2].clamp(0, 1)


def move_onto(
    body: KeypointBody,
    x: FitParameters,
    points: torch.Tensor,
    weight: torch.Tensor,
    seen: Observations,
    depth: torch.Tensor,
) -> FitParameters:
    """Translate so that the keypoints' mean has this depth (B,) and lies on the mean of the seen points (B, K, 3)."""
    plane = (weighted_mean(seen_points(points)[0], weight) - seen.centre) / seen.focal[:, None]
    target = torch.cat([plane, torch.ones_like(plane[:, :1])], 1) * depth[:, None]
    still = replace(x, transl=torch.zeros_like(x.transl))
    own = weighted_mean(body.points(still)[:, : body.num_keypoints], weight)
    return replace(x, transl=target - own)


def scaled_orthography(
    points: torch.Tensor, image: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotation (B, 3, 3) and scale (B,) with image ~ scale (R points)_xy + t. points: (B, N, 3).  image: (B, N, 2).  weight: (B, N)."""
    root = weight.sqrt()[..., None]
    x = (points - weighted_mean(points, weight)[:, None]) * root
    u = (image - weighted_mean(image, weight)[:, None]) * root
    identity = torch.eye(3, dtype=x.dtype, device=x.device)
    spread = x.mT @ x
    ridge = 1e-6 * spread.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] * identity
    affine = torch.linalg.solve(spread + ridge, x.mT @ u).mT  # (B, 2, 3)
    scale = affine.norm(dim=2).mean(1).clamp(min=1e-6)
    third = torch.linalg.cross(affine[:, 0], affine[:, 1]) / scale[:, None]
    return nearest_rotation(torch.cat([affine, third[:, None]], 1)), scale


def ray_rotation(image: torch.Tensor, seen: Observations) -> torch.Tensor:
    """The rotation that takes the optical axis to the ray of a pixel (B, 2): what is seen there looks turned by it. (B, 3, 3)."""
    plane = (image - seen.centre) / seen.focal[:, None]
    ray = torch.cat([plane, torch.ones_like(plane[:, :1])], 1)
    ray = ray / ray.norm(dim=1, keepdim=True)
    axis = torch.stack([-ray[:, 1], ray[:, 0], torch.zeros_like(ray[:, 0])], 1)  # z x ray, as long as the sine
    sine = axis.norm(dim=1, keepdim=True)
    angle = torch.atan2(sine, ray[:, 2:])
    return axis_angle_to_matrix(axis * torch.where(sine > 1e-6, angle / sine.clamp(min=1e-6), 1.0))


def to_axis_angle(rotation: torch.Tensor) -> torch.Tensor:
    """Axis-angle with an angle of at most pi, (B, 3)."""
    return matrix_to_axis_angle(rotation, _NEAR_ZERO)


def weighted_mean(points: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(B, N, D) and weights (B, N) -> (B, D)."""
    return (points * weight[..., None]).sum(1) / weight.sum(1).clamp(min=1e-9)[:, None]


def guess_trust(body: KeypointBody, guess: Guess, seen: Observations) -> torch.Tensor:
    """How well the guessed hand's pose lies on the picture once placed freely, (B,) in (0, 1]; 1 as on training pictures."""
    points = body.points(guess.hand)[:, : body.num_keypoints, :2]
    image, weight = seen_points(seen.hand)
    own = points - weighted_mean(points, weight)[:, None]
    target = image - weighted_mean(image, weight)[:, None]
    scale = (weight[..., None] * own * target).sum((1, 2)) / (weight[..., None] * own * own).sum((1, 2)).clamp(
        min=1e-12
    )
    off = weighted_mean((scale.clamp(min=0)[:, None, None] * own - target).norm(dim=2, keepdim=True), weight)[:, 0]
    spread = weighted_mean(target.norm(dim=2, keepdim=True), weight)[:, 0].clamp(min=1e-6)
    return (_TRUSTED / (off / spread).clamp(min=_TRUSTED)).square()


_TRUSTED = 0.25  # mean 2D error over mean distance from the centre that a good guess has
