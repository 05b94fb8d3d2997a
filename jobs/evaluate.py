"""Measure a network on labelled shards: the paper's table beside a corrected one, with confidence intervals, baselines and worst cases."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from trainers.evaluate import TableConfig

if TYPE_CHECKING:
    import torch

    from model.dice import Dice
    from model.topology import Sizes
    from trainers.data import DataConfig
    from trainers.evaluate import Row
    from trainers.evaluation.pictures import Case, Image, Kind
    from trainers.evaluation.speed import Speed
    from trainers.evaluation.systems import System
    from trainers.evaluation.truth import LabelMeshes
    from trainers.metrics import Records, Surface

log = logging.getLogger(__name__)
ORACLE_LIMIT = 1e-3  # mm: rounding of single precision stays far below
NETWORK, MEAN, ORACLE = "network", "mean pose", "oracle"


@dataclass(frozen=True)
class Config:
    """What to measure, on what, and what to write."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Data sets: NAME=PATH or PATH, of tars, folders or globs; each is a row of its own in the tables, too."""
    model: str | None = None
    """Checkpoint folder (config.json and model.safetensors); baselines alone without it."""
    train: tuple[str, ...] = ()
    """Training shards for the mean-pose baseline; no such baseline without them."""
    output: Path = Path("out/evaluation")
    """Folder for table.md, results.json, results.csv, samples.parquet, index.html and pictures/."""
    variant: Literal["both", "paper", "corrected"] = "both"
    """paper: as the paper's code computes it; corrected: both heads on the same origin, closed head, leaks counted."""
    hand_body: str | None = None
    """Hand body, where the checkpoint's own path is not on this machine."""
    head_body: str | None = None
    """Head body, the same."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto takes a GPU if there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network."""
    batch_size: int = 32
    """Pictures at once."""
    workers: int = 1
    """Processes that decode; 0 decodes in this one."""
    limit: int | None = None
    """At most so many samples of each data set."""
    train_limit: int = 2000
    """At most so many training samples for the mean pose."""
    plausibility: bool = True
    """Measure penetration and touch, which take most of the time; --no-plausibility leaves them out."""
    pictures: int = 4
    """Best, middling and worst samples to draw, of each; 0 for none."""
    speed: bool = True
    """Also time the network on this device."""
    table: tyro.conf.OmitArgPrefixes[TableConfig] = field(default_factory=TableConfig)

    def __post_init__(self) -> None:
        if self.pictures < 0:
            raise ValueError(f"pictures is {self.pictures}; 0 draws none")


def run(config: Config) -> int:
    """Measure and write. Returns 0; 1 if nothing could be measured, or if the labels do not score perfectly against themselves."""
    from trainers.data import make_pass
    from trainers.evaluate import collect, tabulate
    from trainers.evaluation.facts import read_facts
    from trainers.evaluation.truth import LabelMeshes
    from trainers.evaluation.write import write_results, write_samples

    if not config.shards:
        raise ValueError("name at least one data set of shards")
    device = _device(config.device)
    model, sizes = _network(config, device)
    data = _data(config, sizes, config.shards, config.limit, 224 if model is None else model.config.input.size)
    loader = make_pass(data, pin_memory=False)
    config.output.mkdir(parents=True, exist_ok=True)
    _save_config(config)
    truth = LabelMeshes(sizes, device)
    surface = _surface(truth) if config.plausibility else None
    systems = _systems(config, model, sizes, truth)
    with _progress("provenance", 0) as step:
        facts = read_facts({dataset.name: dataset.shards for dataset in data.datasets}, lambda: step(0))
    with _progress("evaluate", sum(loader.sizes)) as step:
        records = collect(systems, (batch.to(device) for batch in loader), truth, surface, facts, step)
    if not len(records[ORACLE]):
        log.error("no sample could be read: %s", "; ".join(list(loader.bad.values())[:3]) or "the data sets are empty")
        return 1
    rows = tabulate(records, facts, config.table)
    speed = _speed(config, model)
    write_results(config.output, rows, config.variant, config.table.bootstrap.level, [asdict(s) for s in speed])
    write_samples(config.output / "samples.parquet", records, facts)
    sheets = _pictures(config, data, records, systems, truth)
    _write_page(config, rows, sheets, speed)
    _print(config, rows)
    return _check(rows)


def _device(name: str) -> torch.device:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); try cpu") from error
    return device


def _network(config: Config, device: torch.device) -> tuple[Dice | None, Sizes]:
    """The network and the sizes of its bodies, with the bodies' names replaced where the caller says so."""
    from model.topology import Topology
    from model.weights.checkpoint import load_dice

    if config.model is None:
        return None, Topology.from_bodies(config.hand_body or "free-hand", config.head_body or "free-head").sizes
    model = load_dice(Path(config.model))
    sizes = model.config.sizes
    for part in ("hand", "head"):
        if body := getattr(config, f"{part}_body"):
            sizes = replace(sizes, **{part: replace(getattr(sizes, part), body=body)})
    sizes.require(Topology.from_bodies(sizes.hand.body, sizes.head.body, sizes.head.convention).sizes)
    return model.to(device), sizes


def _data(config: Config, sizes: Sizes, shards: Sequence[str], limit: int | None, side: int) -> DataConfig:
    from trainers.data import DataConfig, DatasetConfig

    datasets: list[DatasetConfig] = []
    for index, argument in enumerate(shards):
        name, equals, path = argument.partition("=")
        if not equals:
            path, name = argument, Path(argument.rstrip("/")).name or f"set{index}"
        if any(dataset.name == name for dataset in datasets):
            name = f"{name}-{index}"
        datasets.append(DatasetConfig(name, (path,), limit=limit))
    return DataConfig(
        tuple(datasets),
        image_size=side,
        batch_size=config.batch_size,
        shuffle="none",
        hand_body=sizes.hand.body,
        head_body=sizes.head.body,
        workers=config.workers,
    )


def _surface(truth: LabelMeshes) -> Surface:
    import torch

    from trainers.geometry import closed_faces
    from trainers.metrics import Surface

    faces = truth.head.faces
    return Surface(faces, torch.from_numpy(closed_faces(truth.head.arrays)[len(faces) :]).to(faces))


def _systems(config: Config, model: Dice | None, sizes: Sizes, truth: LabelMeshes) -> dict[str, System]:
    from model.bodies import load_body
    from model.inference import InferenceConfig, prepare
    from trainers.data import make_pass
    from trainers.evaluation.systems import MeanPose, Network, Oracle

    systems: dict[str, System] = {}
    device = truth.hand.template.device
    if model is not None:
        hand = load_body(sizes.hand.body, sizes.hand.convention).to(device)
        head = load_body(sizes.head.body, sizes.head.convention).to(device)
        run = prepare(model, InferenceConfig(config.precision))
        systems[NETWORK] = Network(run, hand, head, model.config.camera.origin)
    if config.train:
        side = 224 if model is None else model.config.input.size
        loader = make_pass(_data(config, sizes, config.train, config.train_limit, side), pin_memory=False)
        with _progress("mean pose", sum(loader.sizes)) as step:
            batches = (_counted(batch.to(device), step) for batch in loader)
            systems[MEAN] = MeanPose.of(batches, truth)
    else:
        log.info("no mean-pose baseline: name the training shards with --train")
    systems[ORACLE] = Oracle()
    return systems


def _counted(batch, step: Callable[[int], None]):  # type: ignore[no-untyped-def]
    step(len(batch))
    return batch


def _speed(config: Config, model: Dice | None) -> list[Speed]:
    from trainers.evaluation.speed import measure_speed

    if model is None or not config.speed:
        return []
    return measure_speed(model, (1, 8, 32) if model.template.is_cuda else (1, 8), (config.precision,))


def _pictures(
    config: Config, data: DataConfig, records: Mapping[str, Records], systems: Mapping[str, System], truth: LabelMeshes
) -> dict[Kind, list[tuple[Case, Image]]]:
    """Draw the chosen samples of the first system, reading the data once more as far as needed, and write them as PNG."""
    from PIL import Image as Pictures

    from trainers.data import make_pass
    from trainers.evaluation.pictures import choose, draw_cases

    system, device = next(iter(systems)), truth.hand.template.device
    cases = choose(records[system], config.pictures) if config.pictures else []
    batches = (batch.to(device) for batch in make_pass(data, pin_memory=False))
    with _progress("draw", len(cases)) as step:
        drawn = draw_cases(cases, batches, systems[system], truth, step)
    folder = config.output / "pictures"
    folder.mkdir(exist_ok=True)
    for kind, found in drawn.items():
        for rank, (case, sheet) in enumerate(found):
            Pictures.fromarray(sheet).save(folder / f"{kind}-{rank}-{case.key}.png")
    return drawn


def _write_page(
    config: Config, rows: Sequence[Row], sheets: Mapping[Kind, Sequence[tuple[Case, Image]]], speed: Sequence[Speed]
) -> None:
    from trainers.evaluation.page import render_page

    name = config.model or "baselines"
    page = render_page(name, rows, config.variant, config.table.bootstrap.level, sheets, speed)
    (config.output / "index.html").write_text(page, encoding="utf-8")


def _save_config(config: Config) -> None:
    import json

    text = json.dumps(asdict(config), indent=1, default=str)
    (config.output / "config.json").write_text(text + "\n")


def _print(config: Config, rows: Sequence[Row]) -> None:
    """One table for the whole and one for each data set: metrics down, systems across."""
    from rich.console import Console
    from rich.table import Table

    from trainers.evaluate import WHOLE
    from trainers.evaluation.write import cell, chosen, heading

    console = Console()
    for subset in dict.fromkeys((row.split, row.subset) for row in rows if row.split in (WHOLE, "dataset")):
        mine = [row for row in rows if (row.split, row.subset) == subset]
        table = Table(title=f"{mine[0].samples} samples" + ("" if subset[0] == WHOLE else f" of {subset[1]}"))
        table.add_column("", no_wrap=True)
        for row in mine:
            table.add_column(row.system, justify="right")
        for metrics in chosen(mine, config.variant):
            for metric in metrics:
                table.add_row(heading(metric), *(cell(row.frames.get(metric.name), metric) for row in mine))
            table.add_section()
        console.print(table)
    console.print(f"Subsets, files and pictures: {config.output}/index.html")


def _check(rows: Sequence[Row]) -> int:
    """The labels against themselves must be perfect, or the metrics or the labels are broken."""
    for row in rows:
        if row.system == ORACLE:
            for name in ("pve_same", "mpjpe_same", "pa_mpjpe", "deformation"):
                estimate = row.frames.get(name)
                if estimate is not None and estimate.known and abs(estimate.value) > ORACLE_LIMIT:
                    log.error(
                        "the labels themselves have %s %.4f mm instead of 0: do not trust this table",
                        name,
                        estimate.value,
                    )
                    return 1
    return 0


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; yields what advances it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total or None)
        yield lambda count: progress.update(task, advance=count)


if __name__ == "__main__":
    from jobs.cli import main_for

    sys.exit(main_for("evaluate"))
