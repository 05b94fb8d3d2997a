"""The pipeline's hall: a run is planned, its unfinished units flow through the stages on Ray Data, each ends in a part.

    inputs -> units -> [read decode dedupe quality nsfw detect contact keypoints crop depth pack] -> parts

Neighbouring stages with equal resources share an actor, others become further actor pools. A unit travels as one row and
whatever happens to workers, it ends in the same part: parts are pure functions of inputs and config (pipeline/engine/parts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.storage import Folder, absolute
from handface.pipeline.engine.cluster import cluster
from handface.pipeline.engine.funnel import Funnel
from handface.pipeline.engine.metrics import RunMetrics
from handface.pipeline.engine.record import Stage
from handface.pipeline.engine.run_record import RunConfig, open_run
from handface.pipeline.engine.stats import StatsLog
from handface.pipeline.engine.units import UnitRef, plan_units, read_plan
from handface.pipeline.engine.worker import MICRO_BATCH, StageGroup, Task, Travel, UnitResult, UnitWorker

if TYPE_CHECKING:
    from ray.data import ActorPoolStrategy, Dataset


@dataclass
class Run:
    """A planned run: what is left to do, and the funnel of what earlier starts have finished."""

    day: str
    task: Task
    stages: list[Stage]
    pending: list[UnitRef]
    finished: Funnel = field(default_factory=Funnel)


def prepare(
    inputs: Sequence[str],
    config: RunConfig,
    output: str,
    *,
    list_inputs: Callable[[], Iterable[SourceItem]],
    stages: Callable[[Any, str], list[Stage]],
    progress: Callable[[int], None] = lambda _: None,
    plan_with: Callable[..., list[UnitRef]] = plan_units,
    batch: int = MICRO_BATCH,
) -> Run:
    """Join or start the run in `output`: check its config, plan its units once, see which parts exist.

    list_inputs: the streaming listing, called only if there is no plan yet.  progress: gets the inputs planned.
    plan_with: cuts the listing into units, as `plan_units`.  batch: inputs that pass the stages together.
    Raises ConfigMismatchError naming differing fields, StorageError if the folder cannot be written.
    """
    folder = Folder(absolute(output))
    plan = read_plan(folder)
    day = open_run(folder, config, inputs, planned=plan is not None).day
    fingerprint = config.fingerprint()
    if plan is None:
        plan = plan_with(list_inputs(), folder, config.unit_size, fingerprint, progress)
    finished, done = Funnel(), set()
    for part in read_parts(folder):
        finished.add(part.manifest)
        done.add(part.manifest.unit)
    built = stages(config, day)
    started = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    task = Task(folder, fingerprint, tuple(stage.name for stage in built), start=started, batch=batch)
    return Run(day, task, built, [ref for ref in plan if ref.id not in done], finished)


def execute(run: Run, *, workers: int, local: bool = False) -> Iterator[UnitResult]:
    """Work on the pending units and yield each as it ends, in no particular order. A failed unit does not stop the others.

    workers: CPU workers, 0 for one per CPU of the cluster.  local: in this process, one unit after the other, without Ray.
    """
    if not run.pending:
        return
    groups = group_stages(run.stages)
    results = _in_process(run, groups) if local else _on_ray(run, groups, workers)
    stats = StatsLog(run.task.output, run.task.start)
    try:
        for result in results:
            stats.add(result)
            yield result
            if result.fatal:  # a full disk would fail every other unit too, after all its work
                return
    finally:
        stats.publish()


def group_stages(stages: Sequence[Stage]) -> list[StageGroup]:
    """Neighbours with equal resources together."""
    groups = [(key, tuple(found)) for key, found in groupby(stages, key=lambda stage: stage.resources)]
    return [StageGroup(found, key, last=i == len(groups) - 1) for i, (key, found) in enumerate(groups)]


def _in_process(run: Run, groups: Sequence[StageGroup]) -> Iterator[UnitResult]:
    workers = [UnitWorker(group, run.task) for group in groups]
    try:
        for ref in run.pending:
            travel: Travel | UnitResult = Travel(ref)
            for worker in workers:
                assert isinstance(travel, Travel)
                travel = worker.work(travel)
            assert isinstance(travel, UnitResult)
            yield travel
    finally:
        for worker in workers:
            worker.close()


def _on_ray(run: Run, groups: Sequence[StageGroup], workers: int) -> Iterator[UnitResult]:
    missing = {ref.id: ref for ref in run.pending}
    with cluster(workers, at_least=sum(group.resources.num_cpus for group in groups)) as total:
        dataset = _graph(run, groups, workers or int(total["CPU"]), total)
        metrics = RunMetrics(run.task.output.uri.rstrip("/").rpartition("/")[2], len(missing))
        for row in dataset.iter_rows():
            result: UnitResult = row["unit"]
            if missing.pop(result.unit, None):
                metrics.add(result)
                yield result
    for ref in missing.values():
        yield UnitResult(ref.id, ref.inputs, None, {}, "Ray lost it; its logs say more. Run the same command again")


def _graph(run: Run, groups: Sequence[StageGroup], workers: int, total: dict[str, float]) -> Dataset:
    """The Ray Data graph: a row per unit, an actor pool per group, results out."""
    import ray.data

    units = [{"unit": Travel(ref)} for ref in run.pending]
    dataset: Dataset = ray.data.from_items(units, override_num_blocks=len(units))
    dataset.context.enable_progress_bars = False
    dataset.context.max_errored_blocks = -1  # a unit whose worker keeps dying is reported, the others go on
    for group in groups:
        dataset = dataset.map_batches(
            UnitWorker,
            fn_constructor_args=(group, replace(run.task, watched=True)),
            batch_size=1,
            batch_format="numpy",
            num_cpus=group.resources.num_cpus,
            num_gpus=group.resources.num_gpus,
            compute=_pool(group, groups, min(workers, len(units)), total),
        )
    return dataset


def _pool(group: StageGroup, groups: Sequence[StageGroup], workers: int, total: dict[str, float]) -> ActorPoolStrategy:
    """How many actors a group gets: a lone group all there may be, several grow from one each as units pile up before them."""
    from ray.data import ActorPoolStrategy

    need = group.resources
    if need.num_gpus > total.get("GPU", 0) or sum(g.resources.num_cpus for g in groups) > total.get("CPU", 0):
        names = ", ".join(stage.name for stage in group.stages)
        raise ValueError(f"stages {names} need {need}, one actor of each group at once; the cluster has only {total}")
    most = int(total["GPU"] // need.num_gpus) if need.num_gpus else max(1, int(workers // max(need.num_cpus, 1)))
    alone = len(groups) == 1
    # A unit queued before a busy actor is not taken over by an idle one, so a lone group queues none.
    return ActorPoolStrategy(
        min_size=most if alone else 1, max_size=most, max_tasks_in_flight_per_actor=1 if alone else 2
    )
