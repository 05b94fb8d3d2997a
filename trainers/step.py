"""One step: pictures -> prediction -> losses -> gradients -> weights; then the discriminators'. The same on one rank or many."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from handface.model.network.dice import Dice
from handface.model.network.output import DiceOutput
from handface.trainers.batch import Batch
from handface.trainers.bodies import Bodies
from handface.trainers.config import TrainConfig
from handface.trainers.distributed.batchnorm import synchronise_norms
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.losses import Objective, label_counts
from handface.trainers.optim import EMA, clip, lr_factor, make_optimizer, set_lr
from handface.trainers.priors import AdversarialPriors, PriorInput, RealParameters
from handface.trainers.targets import make_targets, pose_output, widen


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
        if device.type == "cuda":
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.bodies = Bodies.of(network.config, config.loss.paper_released).to(device)
        self.objective = Objective(self.bodies, config.loss).to(device)
        if config.sync_batchnorm and ranks.world > 1:
            synchronise_norms(self.network, device)
        self.optimizer = make_optimizer(self.network, config.optim.lr, config.optim)
        self.ema = EMA(self.network, config.optim.ema) if config.optim.ema else None
        if config.compile:
            self.network.compile()
        self.forward = self._wrap(self.network)
        self.priors: AdversarialPriors | None = None
        if config.priors is not None:
            sizes = network.config.sizes
            torch.manual_seed(self._seed("discriminators", 0, 0))
            self.priors = AdversarialPriors(sizes, config.priors.adversarial).to(device)
            self.discriminator = self._wrap(self.priors)
            self.discriminator_optimizer = make_optimizer(self.priors, config.priors.lr, config.optim)
            self.real = RealParameters.open(config.priors.real, sizes)

    def __call__(self, step: int, batches: Sequence[Batch]) -> StepResult:
        """Do a step (0-based) on this rank's micro-batches. Nothing here waits for the device.

        If losses or gradients are not finite, `finite` says so and the weights may be spoilt: go back to a checkpoint.
        """
        config = self.config
        frozen = step < config.optim.freeze_backbone
        self._train_mode(frozen)
        self.optimizer.zero_grad(set_to_none=True)
        torch.manual_seed(self._seed("dropout", step, self.ranks.rank))
        labels = _sum_counts([label_counts(batch, config.loss.depth) for batch in batches])
        sums: dict[str, torch.Tensor] = {}
        generated: list[PriorInput] = []
        for index, batch in enumerate(batches):
            with self._no_sync(self.forward, last=index == len(batches) - 1):
                terms, output = self.losses(step, batch, labels, len(batches))
                (torch.stack(list(terms.values())).sum() + 0.0 * _sum_outputs(output)).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
            if self.priors is not None:
                generated.append(self.priors.features(output.hand.parameters, output.head.parameters).detach())
        keys = tuple(key for batch in batches for key in batch.keys)
        if frozen:  # without gradients, not without requires_grad, which DDP would not notice
            for parameter in self.network.backbone.parameters():
                parameter.grad = None
        set_lr(self.optimizer, config.optim.lr * lr_factor(step, config.steps, config.optim))
        norm = clip(self.network.parameters(), config.optim)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(self.network)
        if self.priors is not None:
            sums |= self._train_discriminators(step, generated)
        finite = self._all_ranks_finite(torch.stack([*sums.values(), norm]))
        return StepResult(sums, norm, finite, keys)

    def losses(
        self, step: int, batch: Batch, labels: Mapping[str, torch.Tensor] | None = None, batches: int = 1
    ) -> tuple[dict[str, torch.Tensor], DiceOutput]:
        """Weighted terms of one micro-batch, with their graph; over a step's micro-batches they add up to the step's loss.

        Args:
            step: 0-based.
            batch: On the device.
            labels: {term: samples of the whole step that have its label}; where one is missing, every micro-batch counts its own.
            batches: Micro-batches of the step.
        """
        mask = None
        if self.network.config.mask_ratio > 0:
            generator = torch.Generator(self.ranks.device).manual_seed(self._seed("mask", step, 0))
            mask = self.network.draw_mask(generator)  # the same on all ranks
        images = batch.images
        if images.is_cuda:
            images = images.contiguous(memory_format=torch.channels_last)
        mixed = self.config.precision == "bf16"
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=mixed):
            output: DiceOutput = self.forward(images, mask, batch.points)
        posed, truth = pose_output(output, self.bodies), make_targets(batch, self.bodies)

        def reduce_counts(names: tuple[str, ...], counts: torch.Tensor) -> torch.Tensor:
            own = dict(zip(names, (counts * batches).unbind(), strict=True))
            return self.ranks.all_reduce_mean(torch.stack([(own | dict(labels or {}))[name] for name in names]))

        terms = self.objective(output, posed, truth, reduce_counts, step)
        if self.priors is not None:
            started = step >= self.config.loss.starts.adversarial
            # the drawn vertices have to follow, too, also where the regressors' other losses leave them alone
            generated = self.priors.features(*self.network.read_parameters(widen(output)))
            adversarial = self.priors.generator_loss(generated)
            terms |= {name: float(started) * value / batches for name, value in adversarial.items()}
        return terms, output

    def state_dict(self) -> dict[str, Any]:
        """Weights, average, optimizers and discriminators."""
        state: dict[str, Any] = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.ema is not None:
            state["ema"] = {"state": self.ema.state, "steps": self.ema.steps}
        if self.priors is not None:
            state["discriminators"] = self.priors.state_dict()
            state["discriminator_optimizer"] = self.discriminator_optimizer.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`. A moving average or discriminators that are not in the state start afresh."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.ema is not None:
            saved = state.get("ema")
            self.ema.load(*((saved["state"], saved["steps"]) if saved else (self.network.state_dict(), 0)))
        if self.priors is not None and "discriminators" in state:
            self.priors.load_state_dict(state["discriminators"])
            self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])

    def _train_mode(self, frozen: bool) -> None:
        """Training mode, but for the norms of a frozen backbone, whose statistics stay as they are."""
        self.network.train()
        if frozen:
            for module in self.network.backbone.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()

    def _train_discriminators(self, step: int, generated: Sequence[PriorInput]) -> dict[str, torch.Tensor]:
        assert self.priors is not None
        joined = PriorInput(torch.cat([g.hand for g in generated]), torch.cat([g.head for g in generated]))
        real = self.real.sample(step, len(joined.hand), self.ranks.rank, self.ranks.world, self.ranks.device)
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        result = self.discriminator(joined, real)
        result.loss.backward()
        clip(self.priors.parameters(), self.config.optim)
        self.discriminator_optimizer.step()
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

    def _no_sync(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Gradients stay on this rank, but for the last micro-batch."""
        if last or not isinstance(module, DistributedDataParallel):
            return nullcontext()
        return module.no_sync()

    def _all_ranks_finite(self, values: torch.Tensor) -> torch.Tensor:
        """Whether all values are finite on all ranks, scalar."""
        return self.ranks.all_reduce_mean(values.isfinite().all().float()) == 1


def _sum_counts(counts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Samples of all batches that have a term's label, by term."""
    return {name: torch.stack([count[name] for count in counts]).sum() for name in counts[0]}


def _sum_outputs(output: DiceOutput) -> torch.Tensor:
    """A sum over every output, times 0 by the caller: each parameter then has a gradient whatever the loss weights, as DDP wants."""
    return torch.stack([value.float().sum() for value in output.flatten().values()]).sum()
