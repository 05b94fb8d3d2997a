"""The training loop: shards -> weights. One plain process, `torchrun`, or Ray Train run the same lines.

    python -m jobs.train --train out/synthetic --validation out/validation --output out/run
    torchrun --nproc-per-node 8 -m jobs.train --config run.json

A run is a function of its configuration and the step: order of data, augmentation, masks, dropout and real parameters are drawn from
(seed, step), so that going on from a checkpoint repeats exactly what an undisturbed run does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.trainers import checkpoint
from handface.trainers.checkpoint import CheckpointError, Progress
from handface.trainers.config import TrainConfig
from handface.trainers.data import Loader, make_loader
from handface.trainers.distributed.ranks import Ranks, join
from handface.trainers.log import RunLog
from handface.trainers.memory import keep_freed_memory
from handface.trainers.step import StepResult, TrainStep
from handface.trainers.validate import Validation, main_metric

log = logging.getLogger(__name__)
CONFIG, NOT_FINITE = "config.json", "not_finite.jsonl"
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
    """Train to `config.steps`, on all ranks. report: called on every rank with what is logged, e.g. Ray Train's.

    Raises what loaders raise, CheckpointError, NotFiniteError.
    """
    keep_freed_memory()
    with join() as ranks:
        trainer = TrainStep(build_network(config), config, ranks)
        loader = make_loader(config.data, ranks.rank, ranks.world)
        validation = Validation(config, ranks) if config.validation else None
        progress = start(config, trainer, loader, ranks)
        with RunLog(config.output, config.steps, progress.step, ranks.first, config.wandb) as run_log:
            return loop(config, trainer, loader, validation, progress, run_log, ranks, report)


def loop(
    config: TrainConfig,
    trainer: TrainStep,
    loader: Loader,
    validation: Validation | None,
    progress: Progress,
    run_log: RunLog,
    ranks: Ranks,
    report: Report,
) -> TrainResult:
    """Steps, and what is done every so many of them."""
    metric, batches = None, iter(loader)
    patient = ranks.device.type == "cuda"  # look at losses only when logging: a look waits for the device
    while progress.step < config.steps:
        micro = [run_log.waiting(batches).to(ranks.device) for _ in range(config.optim.accumulate)]
        result = None if progress.step in progress.skip else trainer(progress.step, micro)
        progress.step += 1
        now = progress.step
        due = now % config.log_every == 0 or now == config.steps
        saving = now % config.checkpoint_every == 0 or now == config.steps
        if result is not None and (not patient or due or saving) and not bool(result.finite):
            progress = go_back(config, trainer, loader, result, progress, ranks)
            batches, patient = iter(loader), False  # from here on, find the very step
            continue
        if due and result is not None:
            values = log_step(config, trainer, result, now, run_log, ranks)
            report(now, values)
        if validation is not None and (now % config.validate_every == 0 or now == config.steps):
            found = validation(trainer)
            metric, error = main_metric(found)
            run_log.validation(now, found)
            if ranks.first:
                run_log.picture(now, "validation", validation.pictures(trainer))
            if error < progress.best:
                progress.best = error
                if ranks.first:
                    checkpoint.export(config.output, "best", trainer, _note(config, now, metric, error))
        if saving:
            if ranks.first:
                checkpoint.save(config.output, trainer, progress, loader.state_dict(), config.dumps(), config.keep)
            ranks.wait()
    if ranks.first:
        checkpoint.export(config.output, "last", trainer, _note(config, progress.step, metric, None))
    ranks.wait()
    return TrainResult(progress.step, metric, progress.best if metric else None)


def build_network(config: TrainConfig) -> Dice:
    """The network that a run starts from: random weights of its seed, or those of `init`.

    Raises ValueError if the pictures are of another size than its own.
    """
    from handface.model.network.config import preset
    from handface.model.weights.checkpoint import load_dice

    topology = Topology.from_bodies(config.data.hand_body, config.data.head_body)
    if config.init is not None:
        network = load_dice(config.init, topology)
    else:
        wanted = preset(config.preset, topology.sizes)
        torch.manual_seed(config.seed)
        network = Dice(wanted.with_one_branch() if config.one_branch else wanted, topology)
    side = network.config.input.size
    if config.data.image_size != side:
        raise ValueError(
            f"data.image_size is {config.data.image_size}, but {config.init or config.preset} sees {side} pixels"
        )
    return network


def start(config: TrainConfig, trainer: TrainStep, loader: Loader, ranks: Ranks) -> Progress:
    """Begin in an empty folder, or go on from the newest checkpoint that is there. Raises CheckpointError, DataError."""
    found = checkpoint.allowed(ranks.share(checkpoint.newest(config.output)), config)
    if found is None:
        progress = Progress()
        if ranks.first:
            config.output.mkdir(parents=True, exist_ok=True)
            (config.output / CONFIG).write_text(config.dumps())
            checkpoint.save(config.output, trainer, progress, loader.state_dict(), config.dumps(), config.keep)
        ranks.wait()
        return progress
    progress, data, before = checkpoint.load(found, trainer)
    if changes := config.differences(TrainConfig.loads(before)):
        raise CheckpointError(
            f"{found}: is of a run with another configuration: {'; '.join(changes)}; choose another output folder"
        )
    loader.load_state_dict(data)
    log.info("going on from %s", found)
    if ranks.first:
        (config.output / CONFIG).write_text(config.dumps())
    return progress


def go_back(
    config: TrainConfig, trainer: TrainStep, loader: Loader, result: StepResult, progress: Progress, ranks: Ranks
) -> Progress:
    """Name what was not finite, return to the last checkpoint, and pass over that step when it comes again. Raises NotFiniteError.

    Where losses are looked at only now and then (GPU), the step found may be later than the first bad one: the weights are then bad
    already, and the second time every step is looked at.
    """
    step = progress.step - 1
    exact = ranks.device.type == "cpu" or progress.rollbacks > 0
    terms = sorted({name for found in ranks.gather(_not_finite(result)) for name in found})
    keys = [key for found in ranks.gather(result.keys) for key in found]
    message = f"step {step}: {', '.join(terms)} not finite; samples {', '.join(keys)}"
    if ranks.first:
        with (config.output / NOT_FINITE).open("a") as file:
            file.write(json.dumps({"step": step, "exact": exact, "terms": terms, "keys": keys}) + "\n")
    if progress.rollbacks >= config.rollbacks:
        raise NotFiniteError(f"{message}; went back {config.rollbacks} times already, see {config.output / NOT_FINITE}")
    found = ranks.share(checkpoint.newest(config.output))
    assert found is not None  # one is written before the first step
    log.warning("%s; going back to %s", message, found)
    back, data, _ = checkpoint.load(found, trainer)
    loader.load_state_dict(data)
    back.rollbacks, back.skip = progress.rollbacks + 1, sorted({*progress.skip, *([step] if exact else [])})
    return back


def log_step(
    config: TrainConfig, trainer: TrainStep, result: StepResult, step: int, run_log: RunLog, ranks: Ranks
) -> dict[str, float]:
    """Log a step's terms as means over ranks; the one place that waits for the device."""
    names = sorted(result.terms)
    means = ranks.mean(torch.stack([result.terms[name].float() for name in names])).tolist()
    values = dict(zip(names, means, strict=True))
    judged = {name: value for name, value in values.items() if name.startswith("discriminator")}
    values |= {
        "loss": sum(values.values()) - sum(judged.values()),
        "gradient_norm": float(result.norm),
        "rate": trainer.optimizer.param_groups[0]["lr"],
    }
    if trainer.priors is not None:
        values |= trainer.priors.metrics(step)
    run_log.scalars(step, values, config.data.batch_size * config.optim.accumulate, ranks.world)
    return values


def _not_finite(result: StepResult) -> list[str]:
    """Terms that are not finite, or `gradient` where all are."""
    return [name for name, value in result.terms.items() if not bool(value.isfinite())] or ["gradient"]


def _note(config: TrainConfig, step: int, metric: str | None, error: float | None) -> dict[str, object]:
    """What is kept with exported weights."""
    data = [{"name": d.name, "shards": d.shards, "weak": d.weak, "limit": d.limit} for d in config.data.datasets]
    return {"steps": step, "metric": metric, "error": error, "seed": config.seed, "preset": config.preset, "data": data}
