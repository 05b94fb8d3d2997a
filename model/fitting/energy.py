"""What a fit minimises, as one quadratic around the present parameters: points, depth, priors, joint limits.

E(x) = sum_i c_i rho(|pi(p_i(x)) - u_i| / s_i)              face and hand points, Geman-McClure
     + sum_k |p_k - mean p - a (w_k - mean w)|^2 / s_w^2    hand landmarks in metres, scale a free
     + (z_hand - z_head - d)^2 / s_d^2                      distance along the view
     + |x - m|^2 / s^2                                      population and network together
     + bounds of joints and expression
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import torch

from handface.model.bodies.names import JAW_KEYPOINTS
from handface.model.fitting.config import Noise, Observations
from handface.model.fitting.keypoint_body import KeypointBody


@dataclass(frozen=True)
class Prior:
    """Normal variables of one body, with bounds on some of their sums.

    mean: (B, P).  precision: (B, P, P).  rows: (R, P), low, high: (R,): rows @ x is to stay between them.
    """

    mean: torch.Tensor
    precision: torch.Tensor
    rows: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor


@dataclass(frozen=True)
class Quadratic:
    """E near x, all halved as usual: cost (B,), gradient (B, P) and the Gauss-Newton matrix.

    The matrix is blocks, (B, P', P') of the hand's variables and of the head's, plus link link^T, link (B, P): the two bodies meet in
    one number only, how far they are apart along the view.
    """

    cost: torch.Tensor
    gradient: torch.Tensor
    blocks: tuple[torch.Tensor, torch.Tensor]
    link: torch.Tensor


@dataclass(frozen=True)
class _Term:
    """What one term adds for one body: cost (B,), gradient (B, P'), matrix (B, P', P')."""

    cost: torch.Tensor
    gradient: torch.Tensor
    matrix: torch.Tensor

    def __add__(self, other: _Term) -> _Term:
        return _Term(self.cost + other.cost, self.gradient + other.gradient, self.matrix + other.matrix)


_BOUND_PRECISION = 400.0  # (0.05)^-2: radians or expression units beyond a bound


class Energy:
    """E of B people. The packed variables are the hand's, then the head's."""

    def __init__(
        self,
        hand: KeypointBody,
        head: KeypointBody,
        seen: Observations,
        priors: tuple[Prior, Prior],
        distance: torch.Tensor,
        distance_precision: torch.Tensor,
        noise: Noise,
    ) -> None:
        """priors: the hand's and the head's.  distance: (B,) metres from the head's mean vertex to the hand's; distance_precision: (B,) 1/metres^2."""
        self.hand, self.head, self.priors, self.noise = hand, head, priors, noise
        self.distance, self.distance_precision = distance, distance_precision
        size = seen.face_size / seen.focal  # of the face, on the image plane at distance 1
        self.targets, self.weights = [], []
        spread = [torch.full((68,), noise.face), torch.full((21,), noise.hand)]
        spread[0][:JAW_KEYPOINTS] = noise.jaw
        for points, share in zip((seen.face, seen.hand), spread, strict=True):
            target = (points[..., :2] - seen.centre[:, None]) / seen.focal[:, None, None]
            sigma = share.to(size) * size[:, None]
            self.targets.append(torch.where(points[..., 2:] > 0, target, 0.0))
            self.weights.append(points[..., 2].clamp(0, 1) / sigma.square())
        self.has_world = torch.isfinite(seen.world).all(2).all(1)
        self.world = about_mean(torch.where(self.has_world[:, None, None], seen.world, 0.0))

    def at_distance(self, distance: torch.Tensor, precision: torch.Tensor) -> Energy:
        """The same energy with another distance (B,) along the view and its precision (B,)."""
        other = copy(self)
        other.distance, other.distance_precision = distance, precision
        return other

    def __call__(self, x: torch.Tensor, outlier: float) -> Quadratic:
        """The quadratic at x (B, P). outlier: standard deviations beyond which a point hardly counts."""
        own, others = x.split([self.hand.size, self.head.size], 1)
        hand, by_hand = self.hand.evaluate(self.hand.unpack(own))
        head, by_head = self.head.evaluate(self.head.unpack(others))
        fingers = _held(self.priors[0], own) + self._points(1, hand, by_hand, outlier)
        fingers = fingers + self._world(hand, by_hand, outlier)
        face = _held(self.priors[1], others) + self._points(0, head, by_head, outlier)
        apart = hand[:, self.hand.num_keypoints, 2] - head[:, self.head.num_keypoints, 2] - self.distance
        root = self.distance_precision.sqrt()
        by_x = torch.cat([by_hand[:, self.hand.num_keypoints, 2], -by_head[:, self.head.num_keypoints, 2]], 1)
        link = root[:, None] * by_x
        return Quadratic(
            fingers.cost + face.cost + (root * apart).square() / 2,
            torch.cat([fingers.gradient, face.gradient], 1) + (root * apart)[:, None] * link,
            (fingers.matrix, face.matrix),
            link,
        )

    def _points(self, part: int, points: torch.Tensor, by_x: torch.Tensor, outlier: float) -> _Term:
        """Projected keypoints against what was seen. part: 0 face, 1 hand."""
        count = self.targets[part].shape[1]
        residual, derivative = project(points[:, :count], by_x[:, :count])
        residual = residual - self.targets[part]
        weight = self.weights[part]
        square = weight * residual.square().sum(2)
        shrink = 1 / (1 + square / outlier**2)  # rho(r) = r^2 / (1 + r^2 / outlier^2)
        cost = (square * shrink).sum(1) / 2
        weighted = weight * shrink.square()
        return _normal(residual, derivative, weighted, cost)

    def _world(self, points: torch.Tensor, by_x: torch.Tensor, outlier: float) -> _Term:
        """Hand landmarks in metres, scaled to the hand."""
        count = self.world.shape[1]
        own, derivative = about_mean(points[:, :count]), about_mean(by_x[:, :count])
        scale = (own * self.world).sum((1, 2)) / self.world.square().sum((1, 2)).clamp(min=1e-9)
        residual = own - scale.detach()[:, None, None] * self.world
        weight = (self.has_world.to(own) / self.noise.world**2)[:, None].expand(-1, count)
        square = weight * residual.square().sum(2)
        shrink = 1 / (1 + square / outlier**2)
        return _normal(residual, derivative, weight * shrink.square(), (square * shrink).sum(1) / 2)


def _held(prior: Prior, x: torch.Tensor) -> _Term:
    """A body's prior and bounds at its variables (B, P)."""
    off = x - prior.mean
    pull = (prior.precision @ off[..., None])[..., 0]
    value = x @ prior.rows.T
    beyond = value - value.clamp(prior.low, prior.high)
    cost = ((pull * off).sum(1) + _BOUND_PRECISION * beyond.square().sum(1)) / 2
    at = (beyond != 0).any(0)  # bounds that somebody is beyond: few of them all
    active = prior.rows[at] * (beyond[:, at] != 0)[..., None]
    matrix = torch.baddbmm(prior.precision, active.mT, active, alpha=_BOUND_PRECISION)
    return _Term(cost, pull + _BOUND_PRECISION * beyond @ prior.rows, matrix)


def project(points: torch.Tensor, by_x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(X/Z, Y/Z) of points (B, N, 3) with the derivatives (B, N, 2, P) from (B, N, 3, P)."""
    depth = points[..., 2:].clamp(min=0.05)
    plane = points[..., :2] / depth
    return plane, (by_x[..., :2, :] - plane[..., None] * by_x[..., 2:, :]) / depth[..., None]


def about_mean(points: torch.Tensor) -> torch.Tensor:
    """(B, N, ...) less its mean over N."""
    return points - points.mean(1, keepdim=True)


def _normal(residual: torch.Tensor, derivative: torch.Tensor, weight: torch.Tensor, cost: torch.Tensor) -> _Term:
    """Residuals (B, N, D) with derivatives (B, N, D, P) and weights (B, N) -> their normal equations."""
    root = weight.sqrt()[..., None]
    flat = (derivative * root[..., None]).flatten(1, 2)
    return _Term(cost, (flat.mT @ (residual * root).flatten(1)[..., None])[..., 0], flat.mT @ flat)
