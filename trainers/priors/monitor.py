"""Watches a discriminator: has it won, so that the network learns nothing from it, or does it only guess?"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import nn

from handface.trainers.priors.discriminator import GameKind

log = logging.getLogger(__name__)
QUIET, WINS, COLLAPSED = 0, 1, 2
_ADVICE = {
    WINS: "it tells real from fake nearly always, so that its gradient says little; lower its learning rate or use r1",
    COLLAPSED: "it only guesses; raise its learning rate or its weight, and look at the real samples",
}
_NAMES = {WINS: "wins", COLLAPSED: "has collapsed"}


@dataclass(frozen=True)
class AlarmConfig:
    """When to warn about a discriminator."""

    momentum: float = 0.98
    """Of the running means: about the last 1 / (1 - momentum) steps count."""
    warm_up: int = 200
    """Steps before any alarm."""
    win_accuracy: float = 0.97
    """At or above this running accuracy the discriminator wins."""
    guess_margin: float = 0.03
    """Running accuracy within this of 1/2 and mean D(real) within this of mean D(fake): collapsed."""

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"alarm momentum is {self.momentum}; it must be in [0, 1)")


class Monitor(nn.Module):
    """Running means of D(real), D(fake) and accuracy as buffers: they are checkpointed and need no wait for the device."""

    means: torch.Tensor
    steps: torch.Tensor

    def __init__(self, part: str, kind: GameKind, config: AlarmConfig) -> None:
        super().__init__()
        self.part, self.kind, self.config, self._state = part, kind, config, QUIET
        self.register_buffer("means", torch.zeros(3))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, real: torch.Tensor, fake: torch.Tensor) -> None:
        """Count one step. real: (R,), fake: (B,) logits. D is the sigmoid of the logit, or for lsgan the value itself."""
        border = 0.0 if self.kind == "gan" else 0.5
        accuracy = 0.5 * ((real > border).float().mean() + (fake <= border).float().mean())
        if self.kind == "gan":
            real, fake = real.sigmoid(), fake.sigmoid()
        now = torch.stack([real.mean(), fake.mean(), accuracy])
        self.means.mul_(self.config.momentum).add_(now, alpha=1 - self.config.momentum)
        self.steps.add_(1)

    def read(self, step: int | None = None) -> dict[str, float]:
        """{"real", "fake", "accuracy": running means, "alarm": 0 quiet, 1 wins, 2 collapsed}; {} before the first step."""
        steps = int(self.steps)
        if steps == 0:
            return {}
        # The means start at 0; dividing by what the weights sum to takes that out (Adam's bias correction).
        real, fake, accuracy = (self.means / (1 - self.config.momentum**steps)).tolist()
        state = self._state_of(steps, real, fake, accuracy)
        if state != self._state:
            self._say(state, step, real, fake, accuracy)
            self._state = state
        return {"real": real, "fake": fake, "accuracy": accuracy, "alarm": float(state)}

    def _state_of(self, steps: int, real: float, fake: float, accuracy: float) -> int:
        if steps < self.config.warm_up:
            return QUIET
        if accuracy >= self.config.win_accuracy:
            return WINS
        margin = self.config.guess_margin
        return COLLAPSED if abs(accuracy - 0.5) <= margin and abs(real - fake) <= margin else QUIET

    def _say(self, state: int, step: int | None, real: float, fake: float, accuracy: float) -> None:
        when = "" if step is None else f"step {step}: "
        figures = f"D(real) {real:.3f}, D(fake) {fake:.3f}, accuracy {accuracy:.3f}"
        if state == QUIET:
            log.info("%sthe %s discriminator plays again: %s", when, self.part, figures)
        else:
            log.warning("%sthe %s discriminator %s: %s; %s", when, self.part, _NAMES[state], figures, _ADVICE[state])
