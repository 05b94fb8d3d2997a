"""`fit_bodies`: points and a guess -> bodies on the picture."""

from __future__ import annotations

from dataclasses import replace

import torch

from handface.model.bodies.body import ParametricBody
from handface.model.fitting.config import FitConfig, Guess, Observations, Solution
from handface.model.fitting.energy import Energy
from handface.model.fitting.keypoint_body import KeypointBody, Parameters
from handface.model.fitting.prior import build_prior
from handface.model.fitting.solve import minimise
from handface.model.fitting.start import guess_trust, place_hand, place_head, ray_rotation, weighted_mean

_COARSE = 4.0  # times `Noise.outlier` in the first half of the steps: nothing is an outlier yet


class BodyFitter:
    """Fits one pair of bodies, right hands only, on the bodies' device."""

    def __init__(self, hand: ParametricBody, head: ParametricBody, config: FitConfig = FitConfig()) -> None:
        self.hand, self.head, self.config = hand, head, config
        device = str(hand.template.device)
        self.hand_points = KeypointBody(hand, dtype=hand.dtype, device=device)
        self.head_points = KeypointBody(head, dtype=head.dtype, device=device)

    def fit(self, seen: Observations, guess: Guess) -> Solution:
        """B people at once. The hand starts at the guess and at its landmarks in metres; the better end is kept."""
        guess = replace(guess, trust=guess_trust(self.hand_points, guess, seen))
        seen = replace(seen, world=_to_camera_axes(seen))
        prior = build_prior(self.hand, self.head, guess, self.config.spread)
        distance = torch.full_like(guess.distance, self.config.noise.distance**-2)
        energy = Energy(self.hand_points, self.head_points, seen, prior, guess.distance, distance, self.config.noise)
        head = place_head(self.head_points, guess.head, seen)
        mean = self.head_points.evaluate(head)[0][:, self.head_points.num_keypoints]
        depth = mean[:, 2] + guess.distance
        starts = [
            torch.cat([place_hand(self.hand_points, guess.hand, seen, depth, by_world).pack(), head.pack()], 1)
            for by_world in (False, True)
        ]
        outlier = self.config.noise.outlier
        costs = torch.stack([energy(x, _COARSE * outlier).cost for x in starts])
        x = torch.stack(starts)[costs.argmin(0), torch.arange(len(head.transl))]
        half = self.config.steps // 2
        x, _ = minimise(lambda y: energy(y, _COARSE * outlier), x, half)
        x, cost = minimise(lambda y: energy(y, outlier), x, self.config.steps - half)
        split = self.hand_points.size
        return Solution(self.hand_points.unpack(x[:, :split]), self.head_points.unpack(x[:, split:]), cost)


def _to_camera_axes(seen: Observations) -> torch.Tensor:
    """Hand landmarks as the picture's camera sees them: a detector gives them as if the hand were in the middle of the view."""
    weight = seen.hand[..., 2].clamp(0, 1)
    image = torch.where(seen.hand[..., 2:] > 0, seen.hand[..., :2], 0.0)
    return seen.world @ ray_rotation(weighted_mean(image, weight), seen).mT


def pose(body: ParametricBody, x: Parameters) -> dict[str, torch.Tensor]:
    """The keyword arguments with which `body` takes fitted parameters."""
    betas = body.arrays.num_betas
    values = {"betas": x.shape[:, :betas], "expression": x.shape[:, betas:], "pose": x.pose}
    return values | {"global_orient": x.global_orient, "transl": x.transl}
