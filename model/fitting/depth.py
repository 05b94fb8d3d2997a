"""How far the hand lies from where it was fitted, as depth at the keypoints says it.

A depth network's values are affine in depth or in its inverse. The fitted face says how: its visible points give scale and shift,
the hand's values then its depth. Such networks draw the gap between hand and face too wide or too narrow, and see the skin where
keypoints lie inside.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from handface.model.bodies.names import FACE_KEYPOINTS, JAW_KEYPOINTS
from handface.model.fitting.config import Observations

# The four lengths below and the share were set on scenes of seed 77, with a look at seed 41, whose depth had 5 mm of noise and a gap a
# quarter too wide. Seed 42, also in docs/results/fit.md, was looked at afterwards.
_FEWEST_FACE, _FEWEST_HAND = 12, 4  # points with depth
_EXPLAINED = 0.3  # share of the face's variance that its shape must explain; less is no depth of this face
_ROUNDS = 3
_OUTLIER = 2.5  # standard deviations
_UNDER_SKIN = 0.008  # metres from the skin to the hand's keypoints
_FLOOR = 0.006  # standard deviation of the best depth, metres
_STRETCH = 0.15  # of the gap between hand and face, by which networks get it wrong
_SKIN = 0.02  # standard deviation of where along the view a fitted hand meets a fitted face, metres
_APART = 0.05  # metres from the skin at which hands usually are that do not touch
_NEAREST = 0.05  # metres; nothing is nearer to a camera


@dataclass(frozen=True)
class HandDepth:
    """What depth says of B hands.

    offset: (B,) metres that the hand lies farther than fitted.  gap: (B,) metres from face to hand along the view.
    noise: (B,) metres, standard deviation of both where the gap is 0, inf: depth says nothing.  share: (B,) standard deviation that is added for each metre of the gap.
    """

    offset: torch.Tensor
    gap: torch.Tensor
    noise: torch.Tensor
    share: torch.Tensor

    @property
    def precision(self) -> torch.Tensor:
        """(B,) 1/metres^2 of the offset; 0 where depth says nothing."""
        return 1 / (self.noise.square() + (self.share * self.gap).square())


def hand_depth(seen: Observations, z: torch.Tensor) -> HandDepth:
    """The hands' depth, face and hand fitted as far as z (B, 89) says: metres of the keypoints along the view."""
    known = seen.depth[..., 1] > 0
    value = torch.where(known, seen.depth[..., 0], 0.0)
    x = torch.where(seen.depth_inverse[:, None], 1 / z.clamp(min=_NEAREST), z)
    face, hand = known.clone(), known.clone()
    # on the outline a map shows what lies behind
    face[:, :JAW_KEYPOINTS] = face[:, FACE_KEYPOINTS:] = hand[:, :FACE_KEYPOINTS] = False
    line = _fit_line(x, value, face)
    measured = line.x_mean[:, None] + (value - line.value_mean[:, None]) / line.slope.clamp(min=1e-12)[:, None]
    measured = torch.where(seen.depth_inverse[:, None], 1 / measured.clamp(min=1e-3), measured)
    # the map shows skin, which is nearer to the camera than the keypoints in it
    off = torch.where(hand, measured + _UNDER_SKIN - z, torch.nan)
    offset = off.nanmedian(1).values
    scatter = 1.4826 * (off - offset[:, None]).abs().nanmedian(1).values / hand.sum(1).clamp(min=1).sqrt()
    gap = torch.where(hand, measured, torch.nan).nanmedian(1).values - torch.where(face, z, torch.nan).nanmean(1)
    noise, share = (_FLOOR**2 + scatter.square()).sqrt(), line.slope_error + _STRETCH
    told = (face.sum(1) >= _FEWEST_FACE) & (hand.sum(1) >= _FEWEST_HAND) & (line.slope > 0)
    told &= (line.explained >= _EXPLAINED) & torch.isfinite(noise + share + gap)
    zero, unknown = torch.zeros_like(offset), torch.full_like(offset, torch.inf)
    return HandDepth(
        *(torch.where(told, a, b) for a, b in ((offset, zero), (gap, zero), (noise, unknown), (share, zero)))
    )


def presence_with_depth(presence: torch.Tensor, depth: HandDepth, to_skin: torch.Tensor) -> torch.Tensor:
    """Probability (B,) of touch once depth is known: hands that touch lie at the skin, others some 5 cm off.

    to_skin: (B,) metres that the hand would have to move along the view to touch; NaN where it never would, of which depth says nothing.
    """
    apart, touching_gap = to_skin - depth.offset, depth.gap + to_skin - depth.offset
    variance = depth.noise.square() + (depth.share * touching_gap).square() + _SKIN**2
    wide = variance + _APART**2
    evidence = (apart.square() / wide - apart.square() / variance + (wide / variance).log()) / 2
    known = torch.isfinite(evidence)
    return torch.where(known, (presence.logit(eps=1e-4) + evidence).sigmoid(), presence)


@dataclass(frozen=True)
class _Line:
    """value = value_mean + slope (x - x_mean), (B,) each.  slope_error: its relative error.  explained: share of the variance."""

    slope: torch.Tensor
    x_mean: torch.Tensor
    value_mean: torch.Tensor
    slope_error: torch.Tensor
    explained: torch.Tensor


def _fit_line(x: torch.Tensor, value: torch.Tensor, use: torch.Tensor) -> _Line:
    """Robust regression of value on x (B, N) over the points in use (B, N)."""
    weight = use.to(x)
    for _ in range(_ROUNDS):
        total = weight.sum(1).clamp(min=1e-9)
        x_mean, value_mean = (weight * x).sum(1) / total, (weight * value).sum(1) / total
        dx, dv = x - x_mean[:, None], value - value_mean[:, None]
        spread = (weight * dx.square()).sum(1).clamp(min=1e-20)
        slope = (weight * dx * dv).sum(1) / spread
        residual = dv - slope[:, None] * dx
        typical = 1.4826 * torch.where(use, residual.abs(), torch.nan).nanmedian(1).values
        inlier = residual / (_OUTLIER * typical.clamp(min=1e-12))[:, None]
        last = weight
        weight = use / (1 + inlier.square()).square()
    # the line is the one of the last weights; those made after it are not used
    left, whole = (last * residual.square()).sum(1), (last * dv.square()).sum(1)
    error = (left / (last.sum(1) - 2).clamp(min=1) / spread).sqrt() / slope.abs().clamp(min=1e-12)
    return _Line(slope, x_mean, value_mean, error, 1 - left / whole.clamp(min=1e-20))
