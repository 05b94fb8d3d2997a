"""L_depth: predicted depth at the 89 keypoints against a depth network's, in three forms.

The network's camera is weak-perspective, so z is metres relative to the head's mean and the distance to the camera is unknown. Where a
form needs a depth that is positive, it is z + 1, as in the released code, whose orthographic camera stands 1 m off; only the
affine-invariant and the ordinal form do not depend on that choice (disparity: to first order).
"""

from __future__ import annotations

import torch

from handface.pipeline.contract.sample import DEPTH_KINDS, FACE_KEYPOINTS
from handface.trainers.losses.config import DepthLossConfig
from handface.trainers.losses.reduce import Term, masked_mean

CAMERA_DISTANCE = 1.0  # metres from the camera to the head's mean
_POSITIVE = 1e-6
_SMALL = 1e-4  # a spread (metres, or of log depth) below which everything is flat
_TRIM = 0.8  # share of residuals that the robust form keeps
_INVERSE, _PER_PART = DEPTH_KINDS.index("affine-inverse"), DEPTH_KINDS.index("affine-per-part")


def depth_term(
    z: torch.Tensor,
    reference: torch.Tensor,
    kind: torch.Tensor,
    use: torch.Tensor,
    config: DepthLossConfig,
    pooled: bool = False,
) -> Term:
    """The form that is configured; which samples count does not depend on z. Shapes and `pooled` as in `silog`."""
    if config.form == "silog":
        return silog(z, reference, kind, use, config.min_points, pooled)
    if config.form == "ordinal":
        return ordinal(z, reference, kind, use, config.margin, config.clear)
    return affine_invariant(z, reference, kind, use, config.form == "robust-affine", config.min_points)


def silog(
    z: torch.Tensor,
    reference: torch.Tensor,
    kind: torch.Tensor,
    use: torch.Tensor,
    min_points: int = 8,
    pooled: bool = False,
) -> Term:
    """sqrt(Var_k(log(z_k + 1) - log r_k)) (eq. 7): invariant to a scale of the reference, not to a shift; no unit.

    z: (B, K) metres.  reference: (B, K) r.  kind: (B,).  use: (B, K) bool. Disparity is inverted first, r = 1 / value, as if its
    shift were 0. Samples with fewer points, or depth that is relative within a part, do not count.
    pooled: one variance over the points of all samples that count, as the released code has it.
    """
    weight = use.to(z.dtype)
    log_r = reference.clamp(min=_POSITIVE).log()
    log_r = torch.where((kind == _INVERSE)[:, None], -log_r, log_r)
    difference = (z + CAMERA_DISTANCE).clamp(min=_POSITIVE).log() - log_r
    count = weight.sum(1)
    known = (count >= min_points) & (kind >= 0) & (kind != _PER_PART)
    if pooled:
        weight = (weight * known[:, None]).flatten()[None]
        pool = _standard_deviation(difference.flatten()[None], weight)
        return Term(pool.expand(len(z)), known)
    return Term(_standard_deviation(difference, weight), known)


def _standard_deviation(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Unbiased, as torch.std, and never quite 0; (B, K) twice -> (B,)."""
    deviation = (values - masked_mean(values, weight)[:, None]) * weight
    variance = deviation.square().sum(1) / (weight.sum(1) - 1).clamp(min=1)
    return (variance + _SMALL**2).sqrt()


def affine_invariant(
    z: torch.Tensor,
    reference: torch.Tensor,
    kind: torch.Tensor,
    use: torch.Tensor,
    robust: bool = False,
    min_points: int = 8,
) -> Term:
    """Error after the best scale > 0 and shift on either side (Ranftl 2020, eqs. 5-7); no unit. Shapes as in `silog`.

    x = z, for disparity x = 1 / (z + 1): what the reference is affine in. With x^ = (x - t(x)) / s(x) and r^ alike:
    plain: t mean, s standard deviation, 1/2 mean (x^ - r^)^2 = 1 - correlation, the least-squares alignment of both.
    robust: t median, s mean absolute deviation, mean |x^ - r^| over the 80 % smallest.
    Depth that is relative within a part is aligned for face and hand apart, and the mean of both is taken.
    """
    x = torch.where((kind == _INVERSE)[:, None], 1 / (z + CAMERA_DISTANCE).clamp(min=0.05), z)
    groups = part_groups(kind, use)  # (B, 3, K)
    x, r = x[:, None].expand(groups.shape), reference[:, None].expand(groups.shape)
    weight = groups.to(z.dtype)
    count = weight.sum(-1)
    spread = masked_mean((r - masked_mean(r, weight)[..., None]).square(), weight)
    known = (count >= min_points) & (spread > _POSITIVE**2)
    if robust:
        residual = (_by_median(x, groups, _SMALL) - _by_median(r, groups, _POSITIVE**2)).abs()
        rank = torch.where(groups, residual.detach(), torch.inf).argsort(-1).argsort(-1)
        value = masked_mean(residual, weight * (rank < (_TRIM * count).ceil()[..., None]))
    else:
        value = 0.5 * masked_mean((_by_mean(x, weight, _SMALL) - _by_mean(r, weight, _POSITIVE**2)).square(), weight)
    return Term(masked_mean(value, known.to(z.dtype)), known.any(1))


def ordinal(
    z: torch.Tensor,
    reference: torch.Tensor,
    kind: torch.Tensor,
    use: torch.Tensor,
    margin: float = 0.002,
    clear: float = 0.25,
) -> Term:
    """mean over pairs of max(0, margin - sign(r_i - r_j) (z_i - z_j)), metres: only the order in depth counts. Shapes as in `silog`.

    Pairs: both used, of one part where the reference is relative within a part, and their references differ by more than `clear`
    standard deviations. Disparity is negated.
    """
    far = torch.where((kind == _INVERSE)[:, None], -reference, reference)
    groups = part_groups(kind, use)
    weight = groups.to(z.dtype)
    r = far[:, None].expand(groups.shape)
    spread = masked_mean((r - masked_mean(r, weight)[..., None]).square(), weight).sqrt()  # (B, 3)
    apart = far[:, :, None] - far[:, None, :]  # (B, K, K)
    both = groups[..., :, None] & groups[..., None, :]  # (B, 3, K, K)
    pairs = (both & (apart.abs()[:, None] > (clear * spread).clamp(min=_POSITIVE)[..., None, None])).any(1)
    hinge = (margin - apart.sign() * (z[:, :, None] - z[:, None, :])).clamp(min=0)
    weight = pairs.flatten(1).to(z.dtype)
    return Term(masked_mean(hinge.flatten(1), weight), weight.amax(1) > 0)


def part_groups(kind: torch.Tensor, use: torch.Tensor) -> torch.Tensor:
    """Points whose depths can be compared: all of them, or face and hand apart. (B,), (B, K) -> (B, 3, K) bool: all, face, hand."""
    face = torch.arange(use.shape[1], device=use.device) < FACE_KEYPOINTS
    split, known = (kind == _PER_PART)[:, None], (kind >= 0)[:, None]
    return torch.stack([use & known & ~split, use & split & face, use & split & ~face], 1)


def _by_mean(x: torch.Tensor, weight: torch.Tensor, small: float) -> torch.Tensor:
    centred = x - masked_mean(x, weight)[..., None]
    return centred / masked_mean(centred.square(), weight).clamp(min=small**2).sqrt()[..., None]


def _by_median(x: torch.Tensor, group: torch.Tensor, small: float) -> torch.Tensor:
    ordered = torch.where(group, x, torch.inf).sort(-1).values
    middle = (group.sum(-1, keepdim=True) - 1).clamp(min=0) // 2
    median = torch.where(group.any(-1, keepdim=True), ordered.gather(-1, middle), 0.0)
    centred = x - median
    return centred / masked_mean(centred.abs(), group.to(x.dtype)).clamp(min=small)[..., None]
