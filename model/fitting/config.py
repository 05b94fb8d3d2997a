"""What a fit gets, how it weighs it and what it returns: typed, one row per person."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from handface.model.fitting.keypoint_body import FitParameters

TOUCHES = 0.5  # probability from which hand and face are taken to touch


@dataclass(frozen=True)
class Noise:
    """Standard deviations of what is observed; points in shares of the face's longer side."""

    face: float = 0.012
    jaw: float = 0.05
    """Detectors put the jaw line on the silhouette, bodies on the bone."""
    hand: float = 0.02
    outlier: float = 8.0
    """Residuals beyond this many standard deviations hardly count (Geman-McClure)."""
    world: float = 0.012
    """Hand landmarks in metres about their mean, once scaled to the hand's size."""
    distance: float = 0.016
    """Hand to face along the view as the network says it, metres."""
    away: float = 0.03
    """The same of a hand that does not touch."""
    contact: float = 0.004
    """Hand to face along the view once the hand was moved to the skin, or clear of it, metres."""


@dataclass(frozen=True)
class Spread:
    """How far parameters lie from the population's mean, and from the network's guess on pictures like its training ones."""

    betas: float = 1.0
    unit_expression: float = 0.3
    """Of expression coefficients that are shares in [0, 1] (the free head's)."""
    expression: float = 1.0
    """Of expression coefficients that are principal components (FLAME's)."""
    bend: float = 0.8
    """Radians of a finger joint about its flexion axis."""
    splay: float = 0.2
    """Radians of a finger joint about other axes; the thumb's have twice as much."""
    head_pose: float = 0.15
    """Radians of neck, jaw and eyes."""
    guess_betas: float = 0.7
    guess_expression: float = 0.25
    guess_pose: float = 0.2
    guess_head_pose: float = 0.1


@dataclass(frozen=True)
class FitConfig:
    """How bodies are fitted to points."""

    focal: float = 1.2
    """Usual focal length in longer picture sides, where it is not known."""
    face_distance: float = 0.9
    """Usual metres from the camera to a face. An unknown camera lies between the usual one and the one that sees the face there."""
    exploring: int = 6
    """Levenberg-Marquardt steps at most from each start."""
    steps: int = 7
    """Steps at most from the better end of those."""
    settling: int = 5
    """Steps at most once the hand was brought to the face."""
    batch: int = 16
    """People solved together."""
    min_points: int = 6
    """Points with a confidence above 0 that face and hand each need."""
    noise: Noise = field(default_factory=Noise)
    spread: Spread = field(default_factory=Spread)


@dataclass(frozen=True)
class Observations:
    """What was seen of B people with a RIGHT hand, pixels of their pictures.

    face: (B, 68, 3) and hand: (B, 21, 3) x, y, confidence; confidence 0: not seen.  focal: (B,) pixels.  centre: (B, 2) pixels.
    world: (B, 21, 3) hand landmarks in metres about any origin, camera axes; NaN where there are none.
    depth: (B, 89, 2) value and validity (`PointDepth`); all invalid where there is none.  depth_inverse: (B,) bool.
    face_size: (B,) pixels (`Detection.face_size`).
    """

    face: torch.Tensor
    hand: torch.Tensor
    focal: torch.Tensor
    centre: torch.Tensor
    world: torch.Tensor
    depth: torch.Tensor
    depth_inverse: torch.Tensor
    face_size: torch.Tensor

    @property
    def has_depth(self) -> bool:
        """Whether depth is known of anybody."""
        return bool((self.depth[..., 1] > 0).any())


@dataclass(frozen=True)
class Guess:
    """What a network says of B people, about the mean head vertex.

    hand, head: parameters.  distance: (B,) metres from the head's mean vertex to the hand's along the view.
    presence: (B,) probability that hand and face touch.
    trust: (B,) in (0, 1]: 1 where the guess lies on the picture as well as on training pictures.
    sure: whether all these hands are roughly where and as guessed; otherwise more starts are tried.
    """

    hand: FitParameters
    head: FitParameters
    distance: torch.Tensor
    presence: torch.Tensor
    trust: torch.Tensor
    sure: bool

    @property
    def touches(self) -> torch.Tensor:
        """(B,) bool: hand and face are taken to touch."""
        return self.presence >= TOUCHES


@dataclass(frozen=True)
class Solution:
    """B fitted people in camera space, metres: hand, head: parameters.  cost: (B,) of the energy.

    presence: (B,) the guess's probability of touch, and what depth says of it.  depth_told: (B,) bool, depth said where the hand is.
    """

    hand: FitParameters
    head: FitParameters
    cost: torch.Tensor
    presence: torch.Tensor
    depth_told: torch.Tensor
