"""One step: pictures -> prediction -> losses -> gradients -> weights; then the discriminators'. The same on one rank or many."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from handface.model.network.dice import Dice
from handface.model.network.output import DiceOutput
from handface.trainers.batch import Batch
from handface.trainers.bodies import Bodies
from handface.trainers.config import TrainConfig
from handface.trainers.distributed.batchnorm import over_all_ranks
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.losses import Objective
from handface.trainers.optim import Average, clip, make_optimizer, rate, set_rate
from handface.trainers.priors import AdversarialPriors, PriorInput, RealParameters
from handface.trainers.targets import make_targets, pose_output


@dataclass(frozen=True)
class StepResult:
    """terms: {name: scalar} of this rank, detached, their sum over ranks divided by ranks being the loss.  norm: of all
    gradients before they are clipped.  finite: scalar bool, the same on all ranks.  keys: of this rank's samples.
    """

    terms: dict[str, torch.Tensor]
    norm: torch.Tensor
    finite: torch.Tensor
    keys: tuple[str, ...]


class TrainStep:
    """Network, discriminators, their optimizers and the moving average; call it with the batches of a step."""

    def __init__(self, network: Dice, config: TrainConfig, ranks: Ranks) -> None:
        self.config, self.ranks = config, ranks
        device = ranks.device
        self.network = network.to(device)
        self.bodies = Bodies.of(network.config).to(device)
        self.objective = Objective(self.bodies, config.loss).to(device)
        if config.sync_batchnorm and ranks.world > 1:
            over_all_ranks(self.network, device)
        self.optimizer = make_optimizer(self.network, config.optim.lr, config.optim)
        self.average = Average(self.network, config.optim.ema) if config.optim.ema else None
        if config.compile:
            self.network.compile()
        self.forward = self._wrap(self.network)
        self.priors: AdversarialPriors | None = None
        if config.priors is not None:
            sizes = network.config.sizes
            torch.manual_seed(self._seed("discriminators", 0, 0))
            self.priors = AdversarialPriors(sizes, config.priors.game).to(device)
            self.judge = self._wrap(self.priors)
            self.judge_optimizer = make_optimizer(self.priors, config.priors.lr, config.optim)
            self.real = RealParameters.open(config.priors.real, sizes)

    def __call__(self, step: int, batches: Sequence[Batch]) -> StepResult:
        """Do a step (0-based) on this rank's micro-batches. Nothing here waits for the device.

        If losses or gradients are not finite, `finite` says so and the weights may be spoilt: go back to a checkpoint.
        """
        config = self.config
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(self._seed("dropout", step, self.ranks.rank))
        sums: dict[str, torch.Tensor] = {}
        fakes: list[PriorInput] = []
        for index, batch in enumerate(batches):
            with self._alone(self.forward, until=index == len(batches) - 1):
                terms, output = self.losses(step, batch)
                loss = torch.stack(list(terms.values())).sum() + 0.0 * _touch_everything(output)
                (loss / len(batches)).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / len(batches)
            if self.priors is not None:
                fakes.append(self.priors.features(output.hand.parameters, output.head.parameters).detach())
        keys = tuple(key for batch in batches for key in batch.keys)
        if (
            step < config.optim.freeze_backbone
        ):  # without gradients, not without requires_grad, which DDP would not notice
            for parameter in self.network.backbone.parameters():
                parameter.grad = None
        set_rate(self.optimizer, config.optim.lr * rate(step, config.steps, config.optim))
        norm = clip(self.network.parameters(), config.optim)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.network)
        if self.priors is not None:
            sums |= self._judge(step, fakes)
        finite = self._agree(torch.stack([*sums.values(), norm]).isfinite().all())
        return StepResult(sums, norm, finite, keys)

    def losses(self, step: int, batch: Batch) -> tuple[dict[str, torch.Tensor], DiceOutput]:
        """Weighted terms of one micro-batch, with their graph."""
        mask = None
        if self.network.config.mask_ratio > 0:
            generator = torch.Generator(self.ranks.device).manual_seed(self._seed("mask", step, 0))
            mask = self.network.draw_mask(generator)  # the same on all ranks
        mixed = self.config.precision == "bf16"
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=mixed):
            output: DiceOutput = self.forward(batch.images, mask, batch.keypoints_2d)
        posed, truth = pose_output(output, self.bodies), make_targets(batch, self.bodies)
        factors = {"depth": float(step >= self.config.depth_from)}
        terms = self.objective(output, posed, truth, self.ranks.mean, factors)
        if self.priors is not None:
            fake = self.priors.features(output.hand.parameters, output.head.parameters)
            terms |= self.priors.generator_loss(fake)
        return terms, output

    def _judge(self, step: int, fakes: Sequence[PriorInput]) -> dict[str, torch.Tensor]:
        assert self.priors is not None
        fake = PriorInput(torch.cat([f.hand for f in fakes]), torch.cat([f.head for f in fakes]))
        real = self.real.sample(step, len(fake.hand), self.ranks.rank, self.ranks.world, self.ranks.device)
        self.judge_optimizer.zero_grad(set_to_none=True)
        result = self.judge(fake, real)
        result.loss.backward()
        clip(self.priors.parameters(), self.config.optim)
        self.judge_optimizer.step()
        return result.terms

    def _seed(self, what: str, step: int, rank: int) -> int:
        text = f"{self.config.seed}:{what}:{step}:{rank}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")

    def _wrap(self, module: nn.Module) -> nn.Module:
        """Gradients averaged over ranks; buffers are not sent around, since synchronised norms keep them equal."""
        if self.ranks.world == 1:
            return module
        # neither is for the user to act on: 1x1 convolutions' gradients have strides of their own, and buffers are equal from the start
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        devices = [self.ranks.device] if self.ranks.device.type == "cuda" else None
        return DistributedDataParallel(
            module, device_ids=devices, broadcast_buffers=not self.config.sync_batchnorm, gradient_as_bucket_view=True
        )

    def _alone(self, module: nn.Module, until: bool) -> AbstractContextManager[None]:
        """Gradients stay on this rank, but for the last micro-batch."""
        if until or not isinstance(module, DistributedDataParallel):
            return nullcontext()
        return module.no_sync()

    def _agree(self, finite: torch.Tensor) -> torch.Tensor:
        """Whether it is so on all ranks."""
        return self.ranks.mean(finite.float()) == 1


def _touch_everything(output: DiceOutput) -> torch.Tensor:
    """A sum over every output, times 0 by the caller: each parameter then has a gradient whatever the loss weights, as DDP wants."""
    return torch.stack([value.float().sum() for value in output.flatten().values()]).sum()
