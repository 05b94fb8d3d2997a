"""Train the network on shards: as one process, under `torchrun --nproc-per-node N -m jobs.train ...`, or on Ray with --workers.

The folder of a run says how far it is: the same command goes on after whatever stopped it. Every choice there is can be made in a JSON
file (--dump-config writes one to start from); flags that are given override it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from handface.trainers.config import TrainConfig
    from handface.trainers.data import DatasetConfig
    from handface.trainers.train import TrainResult


@dataclass(frozen=True)
class Config:
    """What to train on, what, for how long, and where. None: as the JSON file has it, else the default."""

    train: tuple[str, ...] = ()
    """Shards with 3D labels: [NAME=]PATH of tars, folders or globs."""
    wild: tuple[str, ...] = ()
    """Shards of which only 2D keypoints and depth are used: [NAME=]PATH."""
    validation: tuple[str, ...] = ()
    """Shards that choose the best checkpoint: [NAME=]PATH. Never the test split."""
    output: Path | None = None
    """Folder of the run, on storage that all workers see."""
    preset: Literal["dice-w64", "dice-s", "dice-nano"] | None = None
    """The network."""
    init: Path | None = None
    """Start from these weights."""
    steps: int | None = None
    """Optimizer steps."""
    batch_size: int | None = None
    """Samples per step of each worker."""
    lr: float | None = None
    """Peak learning rate."""
    priors: tuple[str, ...] = ()
    """Sources of real hand and face parameters for the adversarial priors; none without."""
    precision: Literal["fp32", "bf16"] | None = None
    seed: int | None = None
    """Of weights, data order and everything else that is drawn."""
    config: Path | None = None
    """JSON of a whole `TrainConfig`, e.g. the config.json of another run."""
    dump_config: Path | None = None
    """Write the resolved configuration there and do nothing else."""
    workers: str = "0"
    """Ray Train workers: N, or MIN..MAX to go on with fewer while machines are missing. 0: this process, or torchrun's."""
    gpus: bool = False
    """One GPU for each Ray worker."""
    failures: int = 3
    """Times that Ray starts lost workers again."""


def run(config: Config) -> int:
    """Train, say how it went. Returns 0."""
    from handface.trainers.train import train

    resolved = resolve(config)
    if config.dump_config is not None:
        config.dump_config.write_text(resolved.dumps())
        print(f"wrote {config.dump_config}")
        return 0
    if config.workers == "0":
        if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0:
            resolved = replace(resolved, resume="auto")  # torchrun started its ranks again
        result = train(resolved)
        if _rank() == 0:
            _print(resolved, result)
        return 0
    _on_ray(resolved, config)
    return 0


def resolve(config: Config) -> TrainConfig:
    """The file's configuration, or the defaults, with the flags that are given. Raises ValueError naming what is missing or wrong."""
    from handface.trainers.config import PriorsRun, TrainConfig
    from handface.trainers.data import DataConfig
    from handface.trainers.priors import PriorSource, RealConfig

    sets = (*_datasets(config.train, weak=False), *_datasets(config.wild, weak=True))
    if config.config is not None:
        try:
            base = TrainConfig.loads(config.config.read_bytes())
        except ValueError as error:
            raise ValueError(f"{config.config}: {error}") from error
    elif sets:
        base = TrainConfig(data=DataConfig(sets))
    else:
        raise ValueError("nothing to train on: give --train SHARDS or --config FILE")
    side = _image_size(config.init or base.init, config.preset or base.preset)
    data = _changed(base.data, datasets=sets or None, batch_size=config.batch_size, seed=config.seed, image_size=side)
    source = tuple(PriorSource(path) for path in config.priors)
    return _changed(
        base,
        data=data,
        validation=_datasets(config.validation, weak=False) or None,
        output=config.output,
        preset=config.preset,
        init=config.init,
        steps=config.steps,
        optim=_changed(base.optim, lr=config.lr),
        priors=PriorsRun(RealConfig(hand=source, head=source)) if source else None,
        precision=config.precision,
        seed=config.seed,
    )


def _image_size(init: Path | None, name: str) -> int:
    """Side of the pictures that a network sees: the only size there is to train it on. Raises WeightsError."""
    from handface.model.network.config import preset
    from handface.model.weights.checkpoint import read_config

    return (preset(name) if init is None else read_config(init)).input.size


def _changed(owner: Any, **values: Any) -> Any:
    """`owner` with the values that are not None."""
    return replace(owner, **{name: value for name, value in values.items() if value is not None})


def _datasets(arguments: tuple[str, ...], weak: bool) -> tuple[DatasetConfig, ...]:
    from handface.trainers.data import DatasetConfig

    found = []
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals:
            path, name = argument, Path(argument.rstrip("/")).name
        found.append(DatasetConfig(name, (path,), weak=weak))
    return tuple(found)


def _on_ray(resolved: TrainConfig, config: Config) -> None:
    """Run the same loop on Ray Train workers. Lost ones are started again and go on from the run's newest checkpoint.

    Raises CheckpointError if the folder holds a run and `resume` is "never".
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from handface.pipeline.engine.cluster import cluster
    from handface.trainers.checkpoint import allowed, newest

    low, dots, high = config.workers.partition("..")
    try:
        count: Any = (int(low), int(high)) if dots else int(low)
        most = int(high or low)
    except ValueError as error:
        raise ValueError(f"--workers {config.workers}: expected N or MIN..MAX") from error
    output = resolved.output.absolute()
    allowed(newest(output), resolved)
    resolved = replace(resolved, output=output, resume="auto")  # workers that start again go on with this very run
    trainer = TorchTrainer(
        _ray_worker,
        train_loop_config={"config": resolved.dumps()},
        scaling_config=ScalingConfig(num_workers=count, use_gpu=config.gpus),
        run_config=RunConfig(
            name=output.name,
            storage_path=str(output.parent),
            failure_config=FailureConfig(max_failures=config.failures),
        ),
    )
    with cluster(most):
        trainer.fit()
    print(f"trained to step {resolved.steps}; weights are in {output / 'last'}")


def _ray_worker(settings: Mapping[str, str]) -> None:
    """What every Ray Train worker runs; Ray has set up the process group."""
    import ray.train

    from handface.trainers.config import TrainConfig
    from handface.trainers.train import train

    train(TrainConfig.loads(settings["config"]), report=lambda step, values: ray.train.report({"step": step, **values}))


def _print(config: TrainConfig, result: TrainResult) -> None:
    if result.best is not None:
        print(f"step {result.steps}; best {result.metric} {result.best:.2f}, weights in {config.output / 'best'}")
        weights = config.output / "best"
    else:
        weights = config.output / "last"
        print(f"step {result.steps}; weights in {weights}; without --validation nothing says how good they are")
    print(f"measure them: handface evaluate SHARDS --model {weights}")


def _rank() -> int:
    return int(os.environ.get("RANK", 0))


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("train"))
