"""`fit_bodies`: points and a guess -> bodies on the picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from handface.model.bodies.body import ParametricBody
from handface.model.fitting.config import TOUCHES, FitConfig, Guess, Observations, Solution
from handface.model.fitting.depth import HandDepth, hand_depth, presence_with_depth
from handface.model.fitting.energy import Energy
from handface.model.fitting.keypoint_body import FitParameters, KeypointBody
from handface.model.fitting.prior import Population
from handface.model.fitting.solve import minimise
from handface.model.fitting.start import (
    guess_trust,
    hand_turns,
    place_hand,
    place_head,
    ray_rotation,
    seen_points,
    weighted_mean,
)

OffsetToSkin = Callable[[FitParameters, FitParameters, torch.Tensor, float], torch.Tensor]
_REACH = 0.10  # metres that a hand is moved in at most
_FAR, _NEAR = 0.12, 0.02  # metres by which a hand may have to move back before it is brought in: at first, and at last
_PATIENCE = 3  # times the steps where the hand may start far from its pose
# starts that are then followed for a few steps; of a hand that is roughly known the most promising one does
_BEST_STARTS = 4
_COARSE = 12.0  # times `Noise.outlier` in the first steps: hardly anything is an outlier yet


class BodyFitter:
    """Fits one pair of bodies, right hands only, on the bodies' device."""

    def __init__(self, hand: ParametricBody, head: ParametricBody, config: FitConfig = FitConfig()) -> None:
        self.config = config
        device = str(hand.template.device)
        self.hand_points = KeypointBody(hand, dtype=hand.dtype, device=device)
        self.head_points = KeypointBody(head, dtype=head.dtype, device=device)
        self.hand_population, self.head_population = Population(hand, config.spread), Population(head, config.spread)

    def fit(self, seen: Observations, guess: Guess, offset_to_skin: OffsetToSkin | None = None) -> Solution:
        """B people at once. The hand starts turned as guessed, as its landmarks in metres say, or in other ways; the best end is taken.

        offset_to_skin: given hands, heads, who touches (B,) and how far a hand may move back, says how far each hand is to be moved along
        its line of sight to touch the face (NaN: it never would), or to be clear of it, (B,) metres; then everything is fitted once more
        with the hand held there.
        """
        guess = replace(guess, trust=guess_trust(self.hand_points, guess, seen))
        seen = replace(seen, world=_to_camera_axes(seen))
        priors = (
            self.hand_population.with_guess(guess.hand, guess.trust),
            self.head_population.with_guess(guess.head, guess.trust),
        )
        noise = self.config.noise
        held = torch.where(guess.touches, noise.distance, noise.away).to(guess.distance) ** -2
        energy = Energy(self.hand_points, self.head_points, seen, priors, guess.distance, held, noise)
        outlier = self.config.noise.outlier
        patience = 1 if guess.sure else _PATIENCE
        x = self._explore(energy, self._starts(energy, seen, guess), patience * self.config.exploring)
        depth_known = torch.zeros_like(guess.touches)
        if seen.has_depth:
            now, depth = self._depth(x, seen)
            precision = held + depth.precision
            mean = (held * guess.distance + depth.precision * (now + depth.offset)) / precision
            energy, depth_known = energy.at_distance(mean, precision), depth.precision > 0
        x, cost = minimise(lambda y: energy(y, outlier), x, patience * self.config.steps)
        if offset_to_skin is None:
            return Solution(*self._split(x), cost, guess.presence, depth_known)
        return self._bring_to_skin(energy, x, seen, guess, offset_to_skin)

    def _bring_to_skin(
        self, energy: Energy, x: torch.Tensor, seen: Observations, guess: Guess, offset_to_skin: OffsetToSkin
    ) -> Solution:
        """Decide who touches, move the hands to the skin or clear of it, and fit once more with them held there."""
        presence, at_most = guess.presence, torch.full_like(guess.distance, torch.inf)
        depth_known = torch.zeros_like(guess.touches)
        if seen.has_depth:
            _, depth = self._depth(x, seen)
            depth_known = depth.precision > 0
            reach = offset_to_skin(*self._split(x), torch.ones_like(guess.touches), _FAR)
            presence = presence_with_depth(presence, depth, reach)
            # a hand taken to touch that depth sees away from the skin stays as far off as depth says
            at_most = torch.where(guess.touches & (presence < TOUCHES), depth.offset, torch.inf)
        touches = presence >= TOUCHES
        offset = torch.minimum(_in_reach(offset_to_skin(*self._split(x), touches, _FAR)), at_most)
        x, distance = self._moved(x, offset)
        energy = energy.at_distance(distance, torch.full_like(distance, self.config.noise.contact**-2))
        x, cost = minimise(lambda y: energy(y, self.config.noise.outlier), x, self.config.settling)
        last = _in_reach(
            offset_to_skin(*self._split(x), touches, _NEAR)
        )  # the last millimetres, which the picture hardly shows
        return Solution(*self._split(self._moved(x, last)[0]), cost, presence, depth_known)

    def _starts(self, energy: Energy, seen: Observations, guess: Guess) -> torch.Tensor:
        """Packed variables to start from, (S, B, P): the most promising turns of the hand."""
        head = place_head(self.head_points, guess.head, seen)
        depth = self.head_points.points(head)[:, self.head_points.num_keypoints, 2] + guess.distance
        turns = hand_turns(self.hand_points, guess, seen)
        hands = [place_hand(self.hand_points, turned, seen, depth) for turned in turns]
        starts = torch.stack([torch.cat([hand.pack(), head.pack()], 1) for hand in hands])
        costs = torch.stack([energy(x, _COARSE * self.config.noise.outlier).cost for x in starts])
        best = costs.argsort(0)[: 1 if guess.sure else _BEST_STARTS]
        return starts.gather(0, best[..., None].expand(-1, -1, starts.shape[2]))

    def _explore(self, energy: Energy, starts: torch.Tensor, steps: int) -> torch.Tensor:
        """The better end (B, P) of a few steps from each start (S, B, P), with hardly any point an outlier yet."""
        ends = [minimise(lambda y: energy(y, _COARSE * self.config.noise.outlier), start, steps) for start in starts]
        best = torch.stack([cost for _, cost in ends]).argmin(0)
        return torch.stack([x for x, _ in ends])[best, torch.arange(len(best), device=best.device)]

    def _depth(self, x: torch.Tensor, seen: Observations) -> tuple[torch.Tensor, HandDepth]:
        """How far the hand lies from the head along the view, (B,) metres, and what depth says of that."""
        hand, head = self._split(x)
        fingers, face = self.hand_points.points(hand)[..., 2], self.head_points.points(head)[..., 2]
        own, others = self.hand_points.num_keypoints, self.head_points.num_keypoints
        z = torch.cat([face[:, :others], fingers[:, :own]], 1)
        return fingers[:, own] - face[:, others], hand_depth(seen, z)

    def _moved(self, x: torch.Tensor, offset: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Variables with each hand moved along its line of sight, and the distance (B,) to the head that it then has."""
        hand, head = self._split(x)
        place = self.hand_points.points(hand)[:, self.hand_points.num_keypoints]
        ray = place / place.norm(dim=1, keepdim=True)
        hand = replace(hand, transl=hand.transl + offset[:, None] * ray)
        base = self.head_points.points(head)[:, self.head_points.num_keypoints]
        return torch.cat([hand.pack(), head.pack()], 1), (place + offset[:, None] * ray - base)[:, 2]

    def _split(self, x: torch.Tensor) -> tuple[FitParameters, FitParameters]:
        split = self.hand_points.size
        return self.hand_points.unpack(x[:, :split]), self.head_points.unpack(x[:, split:])


def _in_reach(offset: torch.Tensor) -> torch.Tensor:
    """Moves (B,) of hands that the skin is near enough for; the others stay. Moves towards the camera are short, as lines start `_FAR` before the hand."""
    return torch.where(offset <= _REACH, offset, 0.0)


def _to_camera_axes(seen: Observations) -> torch.Tensor:
    """Hand landmarks as the picture's camera sees them: a detector gives them as if the hand were in the middle of the view."""
    return seen.world @ ray_rotation(weighted_mean(*seen_points(seen.hand)), seen).mT


def pose(body: ParametricBody, x: FitParameters) -> dict[str, torch.Tensor]:
    """The keyword arguments with which `body` takes fitted parameters."""
    betas = body.arrays.num_betas
    values = {"betas": x.shape[:, :betas], "expression": x.shape[:, betas:], "pose": x.pose}
    return values | {"global_orient": x.global_orient, "transl": x.transl}
