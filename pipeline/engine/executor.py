"""Executes a run, in this process or on Ray Data: units of one lane one after the other on one worker, lanes side by side.

Neighbouring stages with equal resources share an actor, others become further actor pools. A unit without a lane is one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from handface.pipeline.engine.cluster import cluster
from handface.pipeline.engine.metrics import RunMetrics
from handface.pipeline.engine.run import Run
from handface.pipeline.engine.stage import Stage
from handface.pipeline.engine.stats import StatsLog
from handface.pipeline.engine.units import UnitRef
from handface.pipeline.engine.worker import StageGroup, UnitResult, UnitWorker, WorkItem, threads_restored

if TYPE_CHECKING:
    from ray.data import ActorPoolStrategy, Dataset

Lane = tuple[UnitRef, ...]


def execute(run: Run, *, workers: int, local: bool = False) -> Iterator[UnitResult]:
    """Work on the pending units and yield each as it ends, in no particular order. A failed unit does not stop the others.

    Args:
        run: As `prepare` made it.
        workers: CPU workers, 0 for one per CPU of the cluster.
        local: In this process, one unit after the other, without Ray.
    """
    if not run.pending:
        return
    groups, lanes = group_stages(run.stages), lanes_of(run.pending)
    results = _in_process(run, groups, lanes) if local else _on_ray(run, groups, lanes, workers)
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


def lanes_of(refs: Sequence[UnitRef]) -> list[Lane]:
    """Units of one lane together in order; those that have none alone."""
    keyed = groupby(enumerate(refs), key=lambda pair: pair[1].lane if pair[1].lane >= 0 else (pair[0],))
    return [tuple(ref for _, ref in found) for _, found in keyed]


def _in_process(run: Run, groups: Sequence[StageGroup], lanes: Sequence[Lane]) -> Iterator[UnitResult]:
    with threads_restored(), ExitStack() as stack:
        workers = [UnitWorker(group, run.task) for group in groups]
        for worker in workers:
            stack.callback(worker.close)
        for ref in (ref for lane in lanes for ref in lane):
            item: WorkItem | UnitResult = WorkItem(ref)
            for worker in workers:
                if isinstance(item, WorkItem):
                    item = worker.work(item)
            assert isinstance(item, UnitResult)
            yield item


def _on_ray(run: Run, groups: Sequence[StageGroup], lanes: Sequence[Lane], workers: int) -> Iterator[UnitResult]:
    missing = {ref.id: ref for ref in run.pending}
    with cluster(workers, at_least=sum(group.resources.num_cpus for group in groups)) as total:
        dataset = _graph(run, groups, lanes, workers or int(total["CPU"]), total)
        metrics = RunMetrics(run.task.output.uri.rstrip("/").rpartition("/")[2], len(missing))
        for row in dataset.iter_rows():
            (result,) = row["units"]
            if missing.pop(result.unit, None):
                metrics.add(result)
                yield result
    for ref in missing.values():
        yield UnitResult(
            ref.id,
            ref.inputs,
            None,
            error="the unit was lost: Ray returned no result for it (see the Ray logs). Run the same command again",
        )


def _graph(
    run: Run, groups: Sequence[StageGroup], lanes: Sequence[Lane], workers: int, total: dict[str, float]
) -> Dataset:
    """The Ray Data graph: a row per lane, an actor pool per group, a row per unit out."""
    import ray.data

    rows = [{"units": tuple(map(WorkItem, lane))} for lane in lanes]
    dataset: Dataset = ray.data.from_items(rows, override_num_blocks=len(rows))
    dataset.context.enable_progress_bars = False
    dataset.context.max_errored_blocks = -1  # a unit whose worker keeps dying is reported, the others go on
    dataset.context.target_max_block_size = 1  # a row each, so that a unit is told of before its lane ends
    for group in groups:
        dataset = dataset.map_batches(
            UnitWorker,
            fn_constructor_args=(group, replace(run.task, watched=True)),
            batch_size=1,
            batch_format="numpy",
            num_cpus=group.resources.num_cpus,
            num_gpus=group.resources.num_gpus,
            compute=_pool(group, groups, min(workers, len(rows)), total),
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
