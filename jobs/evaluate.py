"""Measure a network on labelled shards: the paper's table beside a corrected one, with confidence intervals, baselines and worst cases."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from handface.counted import counted
from handface.jobs.shared.progress import Progress
from handface.pipeline.contract.config import Count
from handface.trainers.evaluation.config import TableConfig

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from handface.model.network.dice import Dice
    from handface.model.network.topology import Sizes
    from handface.trainers.batch import Batch
    from handface.trainers.data import DataConfig
    from handface.trainers.evaluation.facts import Facts
    from handface.trainers.evaluation.pictures import Case, Image, Kind
    from handface.trainers.evaluation.run import Row
    from handface.trainers.evaluation.speed import Speed
    from handface.trainers.evaluation.systems import System
    from handface.trainers.evaluation.truth import LabelMeshes
    from handface.trainers.metrics import Records

log = logging.getLogger(__name__)
_BASELINES_SIDE = 224  # pixels, without a network that says
NETWORK, FITTED, MEAN, ORACLE = "network", "fitted", "mean pose", "oracle"
PLACED, POINTS = "mean bodies on the points", "the points"


@dataclass(frozen=True)
class Config:
    """What to measure, on what, and what to write."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Data sets: NAME=PATH or PATH, of tars, folders or globs; each is a row of its own in the tables, too."""
    model: str | None = None
    """Checkpoint folder (a path, s3://, gs://), or a preset that comes with weights; baselines alone without it."""
    train: tuple[str, ...] = ()
    """Training shards for the mean-pose baseline; no such baseline without them."""
    output: Path = Path("out/evaluation")
    """Folder for table.md, results.json, results.csv, samples.parquet, index.html and pictures/."""
    mesh: Literal["parametric", "drawn"] = "parametric"
    """Mesh of the row `network`, as in `predict`; the other one has a row of its own."""
    points: bool = True
    """Whether networks that look at a detector's points (dice-m) get the labelled 2D points; with --no-points they get none."""
    found: tuple[str, ...] = ()
    """Lists of what the detector finds in the shards (`handface weights points`): those networks get that where it is known."""
    fit: bool = True
    """Whether the network's answer is measured after the fit of `predict`, too, where its points are a detector's; --no-fit leaves it out."""
    variant: Literal["both", "paper", "corrected"] = "both"
    """paper: as the paper's code computes it; corrected: both heads on the same origin, closed head, leaks counted."""
    hand_model: str | None = None
    """Hand body, where the checkpoint's own path is not on this machine."""
    head_model: str | None = None
    """Head body, the same."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ...; auto takes a GPU if there is one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network."""
    batch_size: Count = 32
    """Pictures at once."""
    workers: int = 1
    """Processes that decode; 0 decodes in this one."""
    limit: Count | None = None
    """At most so many samples of each data set."""
    train_limit: Count = 2000
    """At most so many training samples for the mean pose."""
    plausibility: bool = True
    """Whether penetration and touch are measured, which takes most of the time; --no-plausibility leaves them out."""
    pictures: int = 4
    """Best, middling and worst samples to draw, of each; 0 for none."""
    speed: bool = True
    """Whether the network is timed on this device; --no-speed leaves it out."""
    table: tyro.conf.OmitArgPrefixes[TableConfig] = field(default_factory=TableConfig)


def run(config: Config) -> int:
    """Measure and write. Returns 0; 1 if nothing could be measured, or if the labels do not score perfectly against themselves."""
    from handface.model.network.deploy.inference import choose_device
    from handface.trainers.data import make_pass
    from handface.trainers.evaluation.facts import read_facts
    from handface.trainers.evaluation.run import collect, pair, tabulate
    from handface.trainers.evaluation.setup import closed_surface, data_of, open_network, oracle_error
    from handface.trainers.evaluation.systems import Oracle
    from handface.trainers.evaluation.truth import LabelMeshes
    from handface.trainers.evaluation.write import write_results, write_samples

    if not config.shards:
        raise ValueError("name at least one data set of shards")
    device = choose_device(config.device)
    model, sizes = open_network(config.model, config.hand_model, config.head_model, device)
    side = _BASELINES_SIDE if model is None else model.config.input.size
    data = data_of(config.shards, sizes, side, config.batch_size, config.workers, config.limit, config.found)
    loader = make_pass(data, pin_memory=False)
    config.output.mkdir(parents=True, exist_ok=True)
    _save_config(config)
    truth = LabelMeshes(sizes, device)
    surface = closed_surface(truth) if config.plausibility else None
    names = [dataset.name for dataset in data.datasets]
    with Progress("provenance", unit="samples") as progress:
        facts = read_facts({dataset.name: dataset.shards for dataset in data.datasets}, lambda: progress.advance(1))
    systems = (
        _systems(config, model, sizes, truth, facts, names)
        | _mean_pose(config, sizes, side, truth)
        | {ORACLE: Oracle()}
    )
    with Progress("evaluating", sum(loader.sizes), unit="samples") as progress:
        batches = (batch.to(device) for batch in loader)
        records = collect(systems, batches, truth, surface, facts, progress.advance, names)
    if not len(records[ORACLE]):
        log.error("no sample could be read: %s", "; ".join(list(loader.bad.values())[:3]) or "the data sets are empty")
        return 1
    rows = tabulate(records, facts, config.table)
    pairs = pair({name: found for name, found in records.items() if name != ORACLE}, facts, config.table.bootstrap)
    speed = _speed(config, model)
    level = config.table.bootstrap.level
    write_results(config.output, rows, pairs, config.variant, level, [asdict(s) for s in speed])
    write_samples(config.output / "samples.parquet", records, facts)
    sheets = _pictures(config, data, records, systems, truth)
    _write_page(config, rows, sheets, speed)
    _print(config, rows)
    if error := oracle_error(rows, ORACLE):
        log.error("%s: do not trust this table", error)
        return 1
    return 0


def _systems(
    config: Config,
    model: Dice | None,
    sizes: Sizes,
    truth: LabelMeshes,
    facts: Mapping[str, Facts],
    names: Sequence[str],
) -> dict[str, System]:
    """The network in both meshes and fitted, and what a detector's points alone amount to; each where there is one."""
    from handface.trainers.evaluation.points import FittedSystem, PlacedMean, PointsThemselves
    from handface.trainers.evaluation.setup import network_systems

    systems: dict[str, System] = {}
    found = _found(config.found, facts)
    detected = found or any(fact.detected for fact in facts.values())
    if model is not None:
        meshes = network_systems(model, sizes, config.precision, config.points)
        network = meshes["parametric"]
        systems[NETWORK] = meshes.pop(config.mesh)
        systems |= {f"{NETWORK}, {mesh}": system for mesh, system in meshes.items()}
        if detected and config.fit:  # a fit to labelled points would be a fit to the truth
            systems[FITTED] = FittedSystem(network, facts, names, config.hand_model, config.head_model)
        if not detected and config.points and model.config.points is not None:
            log.info("the network is given the labelled 2D points; a detector's are worse (--found; --no-points: none)")
    if detected:
        systems[PLACED] = PlacedMean(truth.hand, truth.head, facts, names)
    if found:  # else they are what errors are measured against
        systems[POINTS] = PointsThemselves()
    return systems


def _mean_pose(config: Config, sizes: Sizes, side: int, truth: LabelMeshes) -> dict[str, System]:
    """The mean pose of the training shards, where they are named."""
    from handface.trainers.data import make_pass
    from handface.trainers.evaluation.setup import data_of
    from handface.trainers.evaluation.systems import MeanPose

    if not config.train:
        log.info("no mean-pose baseline: name the training shards with --train")
        return {}
    data = data_of(config.train, sizes, side, config.batch_size, config.workers, config.train_limit)
    loader, device = make_pass(data, pin_memory=False), truth.hand.template.device
    with Progress("mean pose", sum(loader.sizes), unit="samples") as progress:
        batches = (_stepped(batch.to(device), progress.advance) for batch in loader)
        return {MEAN: MeanPose.of(batches, truth)}


def _found(lists: Sequence[str], facts: Mapping[str, Facts]) -> bool:
    """Whether lists of found points are given. Raises ValueError if they have none of the samples."""
    from handface.pipeline.contract.found_points import FoundPoints
    from handface.trainers.evaluation.facts import key_of

    if not lists:
        return False
    known = set(FoundPoints.read(lists).keys.tolist())
    count = sum(key_of(name) in known for name in facts)
    if not count:
        raise ValueError(f"--found {' '.join(lists)} has none of the {len(facts):,} samples: it is of other shards")
    if count < len(facts):
        log.info("--found has %d of %d samples; of the others the network is given labelled points", count, len(facts))
    return True


def _stepped(batch: Batch, step: Callable[[int], None]) -> Batch:
    step(len(batch))
    return batch


def _speed(config: Config, model: Dice | None) -> list[Speed]:
    from handface.trainers.evaluation.speed import measure_speed

    if model is None or not config.speed:
        return []
    return measure_speed(model, (1, 8, 32) if model.template.is_cuda else (1, 8), (config.precision,))


def _pictures(
    config: Config, data: DataConfig, records: Mapping[str, Records], systems: Mapping[str, System], truth: LabelMeshes
) -> dict[Kind, list[tuple[Case, Image]]]:
    """Draw the chosen samples of the first system, reading the data once more as far as needed, and write them as PNG."""
    from PIL import Image as Pictures

    from handface.trainers.data import make_pass
    from handface.trainers.evaluation.facts import key_of, name_samples
    from handface.trainers.evaluation.pictures import choose, draw_cases

    system, device = next(iter(systems)), truth.hand.template.device
    cases = choose(records[system], config.pictures) if config.pictures else []
    batches = (batch.to(device) for batch in make_pass(data, pin_memory=False))
    with Progress("drawing", len(cases), unit="cases") as progress:
        names = [dataset.name for dataset in data.datasets]
        drawn = draw_cases(
            cases, batches, systems[system], truth, progress.advance, lambda batch: name_samples(batch, names)
        )
    folder = config.output / "pictures"
    folder.mkdir(exist_ok=True)
    for earlier in folder.glob("*-*-*.png"):
        earlier.unlink()
    for kind, found in drawn.items():
        for rank, (case, sheet) in enumerate(found):
            Pictures.fromarray(sheet).save(folder / f"{kind}-{rank}-{key_of(case.key).replace('/', '_')}.png")
    return drawn


def _write_page(
    config: Config, rows: Sequence[Row], sheets: Mapping[Kind, Sequence[tuple[Case, Image]]], speed: Sequence[Speed]
) -> None:
    from handface.trainers.evaluation.page import render_page

    name = config.model or "baselines"
    page = render_page(name, rows, config.variant, config.table.bootstrap.level, sheets, speed)
    (config.output / "index.html").write_text(page, encoding="utf-8")


def _save_config(config: Config) -> None:
    import json

    text = json.dumps(asdict(config), indent=1, default=str)
    (config.output / "config.json").write_text(text + "\n")


def _print(config: Config, rows: Sequence[Row]) -> None:
    """One table for the whole and one for each data set: metrics down, systems across, in parts where they are too wide."""
    from rich.console import Console

    from handface.trainers.evaluation.run import FEW_SUBJECTS, WHOLE
    from handface.trainers.evaluation.write import cell, chosen, heading

    console = Console()
    for subset in dict.fromkeys((row.split, row.subset) for row in rows if row.split in (WHOLE, "dataset")):
        mine = [row for row in rows if (row.split, row.subset) == subset]
        title = counted(mine[0].samples, "sample") + ("" if subset[0] == WHOLE else f" of {subset[1]}")
        sections = [
            [(heading(one), [cell(row.estimates.get(one.name), one) for row in mine]) for one in metrics]
            for metrics in chosen(mine, config.variant)
        ]
        for table in tables_of(title, [row.system for row in mine], sections, console):
            console.print(table)
    if not rows:
        console.print(
            "Nothing was measured: the labels have no 3D, and there is no network and no baseline to compare."
        )
        return
    over = "subjects (Student's t)" if rows[0].repeated else "samples"
    if rows[0].repeated and rows[0].subject_count < FEW_SUBJECTS:
        log.warning(
            "%d samples of only %d subjects: intervals are over subjects (Student's t) and wide; believe no difference within them",
            rows[0].samples,
            rows[0].subject_count,
        )
    console.print(f"Brackets are {100 * config.table.bootstrap.level:g} % intervals over {over}.")
    if config.model is None:
        console.print("The oracle is the labels measured against themselves: it only shows that the table is right.")
        console.print(
            "No --model was given, so these are baselines alone; --model dice-m is the network that predict uses."
        )
    console.print(f"Subsets, files and pictures: {config.output}/index.html")


def tables_of(
    title: str, names: Sequence[str], sections: Sequence[Sequence[tuple[str, Sequence[str]]]], console: Console
) -> Iterator[Table]:
    """Tables that fit into the console's width, each with as many columns as do; one column that does not is broken into lines.

    Args:
        title: Above each.
        names: Of the columns.
        sections: Rows with their heading and a cell for each column.
        console: Where they are shown.
    """
    from rich.table import Table

    def build(start: int, end: int) -> Table:
        table = Table(title=title)
        table.add_column("", no_wrap=True)
        for name in names[start:end]:
            table.add_column(name, justify="right", no_wrap=end - start > 1)
        for rows in sections:
            for heading, cells in rows:
                table.add_row(heading, *cells[start:end])
            table.add_section()
        return table

    start, wide = 0, console.options.update(width=10_000)
    while start < len(names):
        end = len(names)
        while end > start + 1 and console.measure(build(start, end), options=wide).maximum > console.width:
            end -= 1
        yield build(start, end)
        start = end


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("evaluate"))
