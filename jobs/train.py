"""Train the network on shards: as one process, under `torchrun --nproc-per-node N -m handface.jobs.train ...`, or on Ray with --workers.

The folder of a run says how far it is: the same command continues a run that was stopped. The preset decides optimiser, losses and
average (`docs/training.md` has the recipes). Every choice there is can be made in a JSON or YAML file (--dump-config writes one to start
from) or with --set; flags that are given override the file.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from handface.jobs.shared.inputs import require_files
from handface.jobs.shared.numbers import check_numbers
from handface.jobs.shared.ray_train import read_workers, train_on_ray
from handface.trainers.data.config import set_name, split_name

if TYPE_CHECKING:
    from handface.trainers.config import TrainConfig
    from handface.trainers.trainer import TrainResult

log = logging.getLogger(__name__)

_OF_PRESET = tyro.conf.arg(help_behavior_hint="(default: the preset's)")


@dataclass(frozen=True)
class Config:
    """What to train on, what, for how long, and where."""

    train: tuple[str, ...] = ()
    """Shards with 3D labels: [NAME=]PATH[:WEIGHT] of tars, folders or globs, local or s3://, gs://. Every set, of --wild too, is drawn
    equally often whatever its size, unless weights say otherwise: --train A:3 --wild B:1."""
    wild: tuple[str, ...] = ()
    """Shards of which only 2D keypoints and depth are used: [NAME=]PATH[:WEIGHT]."""
    validation: tuple[str, ...] = ()
    """Shards that choose the best checkpoint: [NAME=]PATH. Never the test split."""
    exclude: tuple[str, ...] = ()
    """Parquet lists of samples to leave out of all training sets, as `handface recheck` and `handface dedupe` write."""
    found: tuple[str, ...] = ()
    """Lists of what the detector finds in any of these sets (`handface weights points`): a network that looks at points learns from them."""
    output: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: out/run)")] = None
    """Folder of the run, on storage that all workers see: a path, s3://, gs://."""
    preset: Annotated[
        Literal["dice-w64", "dice-s", "dice-m", "dice-nano"] | None,
        tyro.conf.arg(help_behavior_hint="(default: that of --init, else dice-s)"),
    ] = None
    """The network and its recipe."""
    init: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: random weights)")] = None
    """Start from these weights: a folder, or the name of a network that ships with the package, such as dice-m."""
    hand_model: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: what the shards name)")] = None
    """The hand of the 3D labels: free-hand, or an imported .npz."""
    head_model: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: what the shards name)")] = None
    """The head of the 3D labels: free-head, or an imported .npz."""
    steps: Annotated[int | None, _OF_PRESET] = None
    """Optimizer steps. With more than before, the same command prolongs a run."""
    batch_size: Annotated[int | None, _OF_PRESET] = None
    """Samples per step of each worker."""
    lr: Annotated[float | None, _OF_PRESET] = None
    """Peak learning rate."""
    priors: tuple[str, ...] = ()
    """Sources of real hand and face parameters for the adversarial priors; none without."""
    precision: Annotated[Literal["fp32", "bf16"] | None, tyro.conf.arg(help_behavior_hint="(default: fp32)")] = None
    """bf16: the network in mixed precision; losses stay in fp32."""
    seed: Annotated[int | None, tyro.conf.arg(help_behavior_hint="(default: 88, of the data 0)")] = None
    """Of weights, data order and everything else that is drawn."""
    set: tuple[str, ...] = ()
    """Any other setting by its key in the file: --set loss.weights.touch=0 optim.ema=0.99."""
    config: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(optional)")] = None
    """JSON or YAML of a `TrainConfig`, whole or in part, e.g. the config.json of another run."""
    dump_config: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(optional)")] = None
    """Write the resolved configuration there and do nothing else."""
    dry_run: bool = False
    """Print what the sets hold and how often they are drawn, and do nothing else; with --output OUT, draw the first batch as OUT-batch.png."""
    estimate: bool = False
    """Measure a few steps on this machine, say how long the run would take, and do nothing else."""
    workers: str = "0"
    """Ray Train workers: N, or MIN..MAX to go on with fewer while machines are missing. 0: this process, or torchrun's."""
    gpus: bool = False
    """One GPU for each Ray worker."""
    failures: int = 3
    """Times that Ray starts lost workers again."""


def run(config: Config) -> int:
    """Train, say how it went. Returns 0."""
    for flag, lists in (("--found", config.found), ("--exclude", config.exclude)):
        require_files(flag, lists)
    read_workers(config.workers)
    resolved = resolve(config)
    check_numbers(resolved, flags=False)
    if config.dump_config is not None:
        config.dump_config.write_text(resolved.dumps())
        print(f"wrote {config.dump_config}")
        return 0
    _warn_of_seen(resolved)
    if config.dry_run:
        from handface.trainers.data.summary import print_summary

        # beside the run's folder, which stays fresh
        folder = config.output if config.output and "://" not in config.output else None
        picture = Path(f"{folder.rstrip('/')}-batch.png") if folder else None
        print_summary(resolved.data, resolved.validation, resolved.optim.accumulate, picture)
        return 0
    if config.estimate:
        from handface.trainers.estimate import estimate

        print(estimate(resolved))
        return 0
    from handface.trainers.run_folder.resume import check_run

    check_run(resolved)
    if config.workers != "0":
        train_on_ray(resolved, config.workers, config.gpus, config.failures)
        print(f"trained to step {resolved.steps}; weights are in {resolved.output}/last")
        return 0
    from handface.trainers.trainer import train

    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0:
        # torchrun started its ranks again
        resolved = replace(resolved, resume="auto")
    result = train(resolved)
    if int(os.environ.get("RANK", 0)) == 0:
        _print(resolved, result)
    return 0


def resolve(config: Config) -> TrainConfig:
    """The file's configuration, or the preset's recipe, with the flags that are given. Raises ValueError naming what is missing or wrong."""
    from handface.pipeline.contract.settings import read_mapping, without_empty
    from handface.trainers.build import network_config
    from handface.trainers.config import TrainConfig
    from handface.trainers.recipes import RECIPES

    settings: dict[str, Any] = {}
    if config.config is not None:
        settings = without_empty(read_mapping(config.config), TrainConfig)
        if not isinstance(settings.get("data", {}), dict):
            raise ValueError(f"{config.config}: data is {settings['data']!r}; a group of settings is expected")
    sets = _datasets(config.train, config.wild)
    if not sets and not settings.get("data", {}).get("datasets"):
        raise ValueError("nothing to train on: give --train SHARDS or --config FILE with data.datasets")
    given: dict[str, Any] = {
        "data.datasets": sets or None,
        "data.batch_size": config.batch_size,
        "data.seed": config.seed,
        "data.hand_body": config.hand_model,
        "data.head_body": config.head_model,
        "validation": _datasets(config.validation) or None,
        "output": config.output,
        "preset": config.preset,
        "init": config.init,
        "steps": config.steps,
        "optim.lr": config.lr,
        "precision": config.precision,
        "seed": config.seed,
    }
    if config.priors:
        sources = [{"path": path} for path in config.priors]
        given["priors"] = {"real": {"hand": sources, "head": sources}}
    for key, value in given.items():
        if value is not None:
            _put(settings, key, value)
    for text in config.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"--set {text}: expected KEY=VALUE, such as optim.ema=0.99")
        _put(settings, key, _plain(value))
    start = network_config(settings["init"], "") if settings.get("init") else None
    if start is not None and "preset" not in settings and start.preset in RECIPES:
        # the recipe of the network that is gone on with
        settings["preset"] = start.preset
    for dataset in settings["data"]["datasets"] if config.exclude else ():
        dataset["exclude"] = [*dataset.get("exclude", ()), *config.exclude]
    for dataset in [*settings["data"]["datasets"], *settings.get("validation", ())] if config.found else ():
        dataset["found"] = [*dataset.get("found", ()), *config.found]
    try:
        resolved = TrainConfig.of(settings)
    except ValueError as error:
        raise ValueError(f"{config.config}: {error}" if config.config is not None else str(error)) from error
    # the only size there is to train this network on
    side = (start or network_config(None, resolved.preset)).input.size
    return replace(resolved, data=replace(resolved.data, image_size=side))


def _put(settings: dict[str, Any], key: str, value: Any) -> None:
    """Set a value in nested mappings. Raises ValueError if a name on the way holds a plain value."""
    *path, name = key.split(".")
    for step in path:
        if settings.get(step) is None:
            settings[step] = {}
        settings = settings[step]
        if not isinstance(settings, dict):
            raise ValueError(f"{key}: {step} is no group of settings")
    settings[name] = value


def _plain(text: str) -> Any:
    """A flag's value: a JSON value where it is one, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _warn_of_seen(config: TrainConfig) -> None:
    """Say where a run is validated on what it is trained on."""
    seen = {shard.rstrip("/") for one in config.data.datasets for shard in one.shards}
    both = sorted({shard for one in config.validation for shard in one.shards if shard.rstrip("/") in seen})
    if both:
        log.warning("%s: trained on and validated on; the error says nothing of other pictures", ", ".join(both))


def _datasets(strong: tuple[str, ...], weak: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Sets of shards as the file has them, from [NAME=]PATH[:WEIGHT]."""
    found: list[dict[str, Any]] = []
    for argument in (*strong, *weak):
        name, path = split_name(argument)
        before, colon, last = path.rpartition(":")
        weight = 1.0
        if colon and last.replace(".", "", 1).isdigit():
            path, weight = before, float(last)
        name = name or set_name(path, [one["name"] for one in found])
        found.append({"name": name, "shards": [path], "weak": len(found) >= len(strong), "weight": weight})
    return found


def _print(config: TrainConfig, result: TrainResult) -> None:
    weights = f"{config.output.rstrip('/')}/{'best' if config.validation else 'last'}"
    if result.best is not None:
        print(f"step {result.steps}; best {result.metric} {result.best:.2f}, weights in {weights}")
    elif config.validation:  # nothing was left to do
        print(f"step {result.steps}, where the run had ended already; weights in {weights}")
    else:
        print(f"step {result.steps}; weights in {weights}; without --validation nothing says how good they are")
    print(f"measure them: handface evaluate SHARDS --model {weights}")


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("train"))
