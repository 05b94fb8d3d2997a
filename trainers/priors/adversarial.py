"""Adversarial priors: hand and face discriminators as one module, so that wrapping it in DDP makes all ranks share them.

    fake = priors.features(output.hand.parameters, output.head.parameters)
    generator = priors.generator_loss(fake)          # added to the network's losses; gives the discriminators no gradient
    result = ddp_priors(fake, real.sample(step, ...))  # after the network's step; generated samples are detached inside
    result.loss.backward()

`generator_loss` needs no DDP: it leaves the discriminators alone, and they are equal on all ranks. Call it on the bare module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn
from torch.func import functional_call

from handface.model.bodies.convention import named_convention
from handface.model.bodies.names import HEAD_JOINTS
from handface.model.network.topology import PartSizes, Sizes
from handface.trainers.priors.discriminator import (
    Discriminator,
    GameKind,
    discriminator_loss,
    generator_loss,
    r1_penalty,
)
from handface.trainers.priors.monitor import AlarmConfig, Monitor

PARTS = ("hand", "head")


class PriorParameters(Protocol):
    """What is judged of a part: `model.heads.BodyParameters` and `trainers.batch.BodyLabels` both fit."""

    @property
    def betas(self) -> torch.Tensor:
        """(B, S)."""

    @property
    def expression(self) -> torch.Tensor:
        """(B, E)."""

    @property
    def pose(self) -> torch.Tensor:
        """(B, P) axis-angle, radians."""


@dataclass(frozen=True)
class PriorInput:
    """What the discriminators see. hand: (B, P + S) pose, betas.  head: (B, 3 + E + S) jaw, expression, betas."""

    hand: torch.Tensor
    head: torch.Tensor

    def detach(self) -> PriorInput:
        """Without the graph that made it."""
        return PriorInput(self.hand.detach(), self.head.detach())

    def to(self, device: torch.device | str) -> PriorInput:
        """On a device."""
        return PriorInput(self.hand.to(device, non_blocking=True), self.head.to(device, non_blocking=True))


@dataclass(frozen=True)
class PriorsConfig:
    """How the discriminators are trained. The defaults are the released ones."""

    kind: GameKind = "gan"
    """gan: binary cross-entropy, non-saturating; lsgan: least squares."""
    weight: float = 20.0
    """W of both sides; 0 leaves the priors out."""
    hand_factor: float = 3.0
    """The hand discriminator's own loss is this times W."""
    head_factor: float = 1.0
    """The same of the face."""
    hidden: tuple[int, ...] = (256, 64)
    """Widths between input and logit."""
    spectral_norm: bool = False
    """Bound every layer's largest singular value by 1 (Miyato 2018)."""
    r1: float = 0.0
    """gamma of the R1 gradient penalty at real samples; 0 is none."""
    alarm: AlarmConfig = field(default_factory=AlarmConfig)

    def __post_init__(self) -> None:
        if self.weight < 0 or self.r1 < 0:
            raise ValueError(f"priors: weight {self.weight} and r1 {self.r1} must not be negative")


@dataclass(frozen=True)
class PriorResult:
    """Of one discriminator step. loss: scalar, weighted, to call backward on.  terms: its parts, detached scalars by name."""

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]


class AdversarialPriors(nn.Module):
    """Discriminators of hand (pose, betas; 55 numbers for MANO) and face (jaw, expression, betas; 153 for FLAME)."""

    def __init__(self, sizes: Sizes, config: PriorsConfig = PriorsConfig()) -> None:
        super().__init__()
        self.config = config
        self.jaw = jaw_columns(sizes.head)
        widths = {
            "hand": sizes.hand.pose + sizes.hand.betas,
            "head": 3 + sizes.head.expression + sizes.head.betas,
        }
        self.discriminators = nn.ModuleDict(
            {part: Discriminator(widths[part], config.hidden, config.spectral_norm) for part in PARTS}
        )
        self.monitors = nn.ModuleDict({part: Monitor(part, config.kind, config.alarm) for part in PARTS})

    def features(self, hand: PriorParameters, head: PriorParameters) -> PriorInput:
        """The judged numbers of predicted or known parameters, float32."""
        jaw = head.pose[:, self.jaw]
        return PriorInput(
            torch.cat([hand.pose, hand.betas], 1).float(), torch.cat([jaw, head.expression, head.betas], 1).float()
        )

    def generator_loss(self, fake: PriorInput) -> dict[str, torch.Tensor]:
        """W (L_G(hand) + L_G(face)) as {"adversarial_hand", "adversarial_head"}: scalars whose gradient reaches `fake` only."""
        terms = {}
        for part in PARTS:
            values = getattr(fake, part)
            discriminator = self.discriminators[part]
            still = {name: value.detach() for name, value in discriminator.named_parameters()}
            with torch.autocast(values.device.type, enabled=False):
                logits = functional_call(discriminator, still, (values,))
                terms[f"adversarial_{part}"] = self.config.weight * generator_loss(logits, self.config.kind)
        return terms

    def forward(self, fake: PriorInput, real: PriorInput) -> PriorResult:
        """The discriminators' losses: hand_factor W L_D(hand) + head_factor W L_D(face) (+ R1). fake is detached here.

        fake: (B, ..) and real: (R, ..). Updates the running means behind `metrics`.
        """
        terms: dict[str, torch.Tensor] = {}
        loss = torch.zeros((), device=fake.hand.device)
        for part, factor in zip(PARTS, (self.config.hand_factor, self.config.head_factor), strict=True):
            part_loss, part_terms = self._discriminate(part, getattr(fake, part).detach(), getattr(real, part).detach())
            loss = loss + factor * self.config.weight * part_loss
            terms |= {f"discriminator_{part}{name}": value for name, value in part_terms.items()}
        return PriorResult(loss, terms)

    def _discriminate(
        self, part: str, fake: torch.Tensor, real: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with torch.autocast(fake.device.type, enabled=False):
            real = real.to(fake)
            if self.config.r1 > 0:
                real.requires_grad_(True)
            discriminator = self.discriminators[part]
            real_logits, fake_logits = discriminator(real), discriminator(fake)
            loss = discriminator_loss(real_logits, fake_logits, self.config.kind)
            terms = {"": loss.detach()}
            if self.config.r1 > 0:
                penalty = self.config.r1 * r1_penalty(real_logits, real)
                terms["_r1"] = penalty.detach()
                loss = loss + penalty
        monitor = self.monitors[part]
        assert isinstance(monitor, Monitor)
        monitor.update(real_logits.detach(), fake_logits.detach())
        return loss, terms

    def metrics(
        self, step: int | None = None, all_reduce_mean: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> dict[str, float]:
        """Running means and alarms by name, e.g. `priors/hand_accuracy`; logs a warning when an alarm begins or ends.

        Waits for the device; call it when logging, not in every step.

        Args:
            step: Named in the warning.
            all_reduce_mean: Takes the means over ranks, each of which has seen its own samples only.
        """
        found: dict[str, float] = {}
        for monitor in self.monitors.values():
            assert isinstance(monitor, Monitor)
            if all_reduce_mean is not None:
                monitor.means.copy_(all_reduce_mean(monitor.means))
            found |= {f"priors/{monitor.part}_{name}": value for name, value in monitor.read(step).items()}
        return found


def jaw_columns(head: PartSizes) -> slice:
    """Where the jaw's 3 numbers are in the head's pose. Raises ValueError for a pose without a jaw."""
    turned = named_convention(head.convention, "head").pose_joints or tuple(range(1, len(HEAD_JOINTS)))
    jaw = HEAD_JOINTS.index("jaw")
    if jaw not in turned or 3 * len(turned) != head.pose:
        raise ValueError(
            f"head pose of {head.pose} numbers in convention {head.convention!r} turns joints {turned}: no jaw to judge"
        )
    first = 3 * turned.index(jaw)
    return slice(first, first + 3)
