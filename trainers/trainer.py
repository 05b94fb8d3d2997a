"""`Trainer`: shards -> weights. One plain process, `torchrun`, or Ray Train run the same lines; `train(config)` does it all.

    python -m handface.jobs.train --train out/synthetic --validation out/validation --output out/run
    torchrun --nproc-per-node 8 -m handface.jobs.train --config run.json

A run is a function of its configuration and the step: order of data, augmentation, masks, dropout and real parameters are drawn from
(seed, step), so that going on from a checkpoint repeats exactly what an undisturbed run does.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from handface.pipeline.contract.lock import RENEW_S, STALE_S, lock_folder
from handface.pipeline.contract.storage import Folder
from handface.trainers.batch import Batch
from handface.trainers.build import check_bodies, start_network
from handface.trainers.config import TrainConfig
from handface.trainers.data import make_loader
from handface.trainers.data.probe import with_bodies
from handface.trainers.distributed.ranks import Ranks, init_process_group
from handface.trainers.estimate import describe, measure_step, warn_if_long
from handface.trainers.memory import keep_freed_memory
from handface.trainers.run_folder import checkpoint
from handface.trainers.run_folder.checkpoint import RunProgress
from handface.trainers.run_folder.log import RunLog
from handface.trainers.run_folder.resume import CONFIG, check_resume, require_fresh
from handface.trainers.run_folder.storage import with_retries
from handface.trainers.step import StepResult, TrainStep
from handface.trainers.validate import Validation, main_metric

log = logging.getLogger(__name__)
NOT_FINITE = "not_finite.jsonl"
_LOCAL_WAIT_S = 5.0
_SIGTERM_EXIT = 128 + signal.SIGTERM
_MANY_STEPS = 1000  # from here on it is worth the time of a few to say how long all will take
Report = Callable[[int, Mapping[str, float]], None]


class NotFiniteError(RuntimeError):
    """A loss was not finite more often than a run may go back; the message names terms, step and samples."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. best: lowest validation error, in `metric`'s unit; None without validation."""

    steps: int
    metric: str | None
    best: float | None


def train(config: TrainConfig, report: Report = lambda step, values: None) -> TrainResult:
    """Train to `config.steps`, on all ranks.

    Args:
        config: The run. A folder that holds one already is gone on with.
        report: Called on every rank with what is logged, e.g. Ray Train's.

    Raises:
        CheckpointError: The folder's run cannot be gone on with.
        NotFiniteError: A loss was not finite too often.
        Exception: What loaders raise.
    """
    keep_freed_memory()
    with init_process_group() as ranks:
        return Trainer(config, ranks, report).train()


class Trainer:
    """Network, data, validation and position of one run, on one rank."""

    def __init__(self, config: TrainConfig, ranks: Ranks, report: Report = lambda step, values: None) -> None:
        # the main rank looks into the data for all
        data = ranks.broadcast(with_bodies(config.data) if ranks.is_main else None)
        config = replace(config, data=data)
        self.config, self.ranks, self.report = config, ranks, report
        if ranks.device.type == "cuda":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True
        self.loader = make_loader(config.data, ranks.rank, ranks.world)
        network, trained = start_network(config)
        self.step = TrainStep(network, config, ranks)
        self._from_random = not trained
        self.validation = Validation(config, ranks) if config.validation else None
        self.progress = RunProgress()
        self.metric: str | None = None
        self._folder = Folder(config.output)
        # look at losses only when logging: a look waits for the device
        self._patient = ranks.device.type == "cuda"

    def train(self) -> TrainResult:
        """Begin or go on, train to the configured step, and leave the weights in `last/` (and `best/`).

        Raises LockedError if another process trains in the run's folder.
        """
        if not self.ranks.is_main:
            return self._train()
        # ranks of a launcher that was killed end within a second; on an object store a dead holder's lock has to grow old
        patience = _LOCAL_WAIT_S if self._folder.local else STALE_S + RENEW_S
        with lock_folder(self._folder, "train", patience):
            return self._train()

    def _train(self) -> TrainResult:
        config, ranks = self.config, self.ranks
        self.start()
        self._announce()
        with (
            RunLog(
                config.output, config.steps, self.progress.step, ranks.rank, config.wandb, config.log_samples
            ) as run_log,
            _sigterm(alone=ranks.world == 1) as stop,
        ):
            self._loop(run_log, stop)
        if ranks.is_main:
            checkpoint.export(config.output, "last", self.step, self._note(None))
        ranks.barrier()
        return TrainResult(self.progress.step, self.metric, self.progress.best if self.metric else None)

    def train_step(self, batches: Sequence[Batch]) -> StepResult:
        """One optimizer step on the step's micro-batches, which are on the device; the position moves on by one."""
        result = self.step(self.progress.step, batches)
        self.progress.step += 1
        return result

    def validate(self) -> Mapping[str, float]:
        """{metric: value} over the validation sets, the same on all ranks; of the moving average, if there is one."""
        if self.validation is None:
            raise ValueError("the run has no validation data")
        return self.validation(self.step)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on.

        Random numbers need no state: masks, dropout, augmentation and real parameters are functions of seed and step.
        """
        return {
            "progress": self.progress.state_dict(),
            "data": self.loader.state_dict(),
            "config": self.config.dumps(),
            **self.step.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from `state_dict`. Raises CheckpointError or DataError if it is of other bodies or other data."""
        check_bodies(self.step.network, state["network"])
        self.loader.load_state_dict(state["data"])
        self.step.load_state_dict(state)
        self.progress = RunProgress(**state["progress"])

    def start(self) -> None:
        """Begin in an empty folder, or go on from the newest checkpoint that is there. Raises CheckpointError, DataError."""
        config, ranks = self.config, self.ranks
        found = None
        if ranks.is_main:
            require_fresh(config, checkpoint.list_checkpoints(config.output))
            checkpoint.clean(config.output)
            found = checkpoint.load_newest(config.output)
        name = ranks.broadcast(found and found[0])
        if name is not None:
            state = found[1] if found else checkpoint.load(config.output, name)
            taken_up = check_resume(config, state["config"], f"{config.output}/{checkpoint.FOLDER}/{name}")
            self.load_state_dict(state)
            if any(text.startswith(("validation", "validate_samples")) for text in taken_up):
                self.progress.best = float("inf")
            if ranks.is_main:
                log.info("going on from step %d%s", self.progress.step, "".join(f"; {text}" for text in taken_up))
        if ranks.is_main:
            path = f"{config.output}/{CONFIG}"
            with_retries(path, self._folder.write, CONFIG, config.dumps().encode())
            if name is None:
                self._save()
        ranks.barrier()

    def _announce(self) -> None:
        """Say what is trained, and before it starts if it will take long."""
        config, data = self.config, self.config.data
        sets = ", ".join(f"{name} {size:,}" for name, size in zip(self.loader.names, self.loader.sizes, strict=True))
        parameters = sum(value.numel() for value in self.step.network.parameters())
        if self.ranks.is_main:
            log.info(
                "%s, %.1f M parameters; %s samples; %d a step; step %d of %d",
                config.preset,
                parameters / 1e6,
                sets,
                data.batch_size * config.optim.accumulate * self.ranks.world,
                self.progress.step,
                config.steps,
            )
        if self.ranks.is_main and self.ranks.device.type == "cpu" and config.steps - self.progress.step >= _MANY_STEPS:
            batch = next(iter(make_loader(replace(data, batch_size=2, workers=0), pin_memory=False)))
            seconds = measure_step(config, self.ranks.device, batch)
            log.info("%s", describe(seconds, config, self.progress.step))
            warn_if_long(seconds, config, self.ranks.device, self.progress.step)

    def _loop(self, run_log: RunLog, stop: threading.Event) -> None:
        """Steps, and what is done every so many of them."""
        config, ranks, batches = self.config, self.ranks, iter(self.loader)
        while self.progress.step < config.steps:
            micro = [run_log.waiting(batches).to(ranks.device) for _ in range(config.optim.accumulate)]
            result = None
            if self.progress.step in self.progress.skip:
                self.progress.step += 1
            else:
                result = self.train_step(micro)
            now = self.progress.step
            last = now == config.steps
            due, saving = (last or now % every == 0 for every in (config.log_every, config.checkpoint_every))
            if result is not None and (not self._patient or due or saving or stop.is_set()) and not bool(result.finite):
                self._go_back(result)
                run_log.rewind(self.progress.step)
                # from here on, find the very step
                batches, self._patient = iter(self.loader), False
                continue
            run_log.tick(now)
            if result is not None:
                run_log.samples(now, result.keys)
                if due:
                    self._log_step(result, run_log)
            if self.validation is not None and (last or now % config.validate_every == 0):
                self._validate(run_log)
            if saving:
                if ranks.is_main:
                    self._save()
                    run_log.upload()
                ranks.barrier()
            if stop.is_set():
                if not saving:
                    self._save()
                log.warning("ended by SIGTERM after step %d, which is saved; the same command goes on", now)
                raise SystemExit(_SIGTERM_EXIT)

    def _validate(self, run_log: RunLog) -> None:
        """Validate, log, and keep the weights if they are the best so far."""
        assert self.validation is not None
        values = self.validate()
        self.metric, error = main_metric(values)
        run_log.validation(self.progress.step, values)
        if self.ranks.is_main:
            run_log.picture(self.progress.step, "validation", self.validation.pictures(self.step))
        if error < self.progress.best:
            self.progress.best = error
            if self.ranks.is_main:
                checkpoint.export(self.config.output, "best", self.step, self._note(error))

    def _log_step(self, result: StepResult, run_log: RunLog) -> None:
        """Log a step's terms as means over ranks; the one place that waits for the device."""
        config, step = self.config, self.step
        names = sorted(result.terms)
        stacked = torch.stack([*(result.terms[name].float() for name in names), result.norm.float()])
        *means, norm = self.ranks.all_reduce_mean(stacked).tolist()
        values = dict(zip(names, means, strict=True))
        discriminators = sum(value for name, value in values.items() if name.startswith("discriminator"))
        values |= {
            "loss": sum(values.values()) - discriminators,
            "gradient_norm": norm,
            "rate": step.optimizer.param_groups[0]["lr"],
        }
        if step.priors is not None:
            values |= step.priors.metrics(self.progress.step, self.ranks.all_reduce_mean)
        run_log.scalars(self.progress.step, values, config.data.batch_size * config.optim.accumulate, self.ranks.world)
        self.report(self.progress.step, values)

    def _save(self) -> None:
        checkpoint.save(self.config.output, self.state_dict(), self.progress.step, self.config.keep)

    def _go_back(self, result: StepResult) -> None:
        """Name what was not finite, return to the last checkpoint, and pass over that step when it comes again. Raises NotFiniteError.

        Where losses are looked at only now and then (GPU), the step found may be later than the first bad one: the weights are then
        bad already, and the second time every step is looked at.
        """
        config, ranks, progress = self.config, self.ranks, self.progress
        step = progress.step - 1
        exact = not self._patient
        terms = sorted({name for gathered in ranks.all_gather(_not_finite(result)) for name in gathered})
        keys = [key for gathered in ranks.all_gather(result.keys) for key in gathered]
        message = f"step {step}: {', '.join(terms)} not finite; samples {', '.join(keys)}"
        if ranks.is_main:
            self._append(NOT_FINITE, {"step": step, "exact": exact, "terms": terms, "keys": keys})
        if progress.rollbacks >= config.rollbacks:
            raise NotFiniteError(
                f"{message}; went back {config.rollbacks} times already, see {config.output}/{NOT_FINITE}"
            )
        name = ranks.broadcast(checkpoint.list_checkpoints(config.output)[-1] if ranks.is_main else None)
        log.warning("%s; going back to %s", message, name)
        self.load_state_dict(checkpoint.load(config.output, name))
        self.progress.rollbacks = progress.rollbacks + 1
        self.progress.skip = sorted({*progress.skip, *([step] if exact else [])})

    def _append(self, name: str, line: Mapping[str, Any]) -> None:
        """Add a JSON line to a file of the run's folder."""
        before = self._folder.read(name) if self._folder.exists(name) else b""
        self._folder.write(name, before + json.dumps(line).encode() + b"\n")

    def _note(self, error: float | None) -> dict[str, object]:
        """What is kept with exported weights."""
        config = self.config
        data = [{"name": d.name, "shards": d.shards, "weak": d.weak, "limit": d.limit} for d in config.data.datasets]
        run = {"steps": self.progress.step, "metric": self.metric, "error": error, "from_random": self._from_random}
        return run | {"seed": config.seed, "preset": config.preset, "data": data}


@contextmanager
def _sigterm(alone: bool) -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that a run on one rank ends after a whole step; several ranks end with their launcher, as before."""
    stop = threading.Event()
    if not alone or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None: a C library's, which cannot be set again


def _not_finite(result: StepResult) -> list[str]:
    """Terms that are not finite, or `gradient` where all are."""
    return [name for name, value in result.terms.items() if not bool(value.isfinite())] or ["gradient"]
