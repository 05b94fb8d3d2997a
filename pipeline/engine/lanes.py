"""Executes a run whose units lie in lanes: a lane's units one after the other, on one worker, so that a host has one owner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from handface.pipeline.contract.parts import Manifest, part_name
from handface.pipeline.engine.cluster import cluster
from handface.pipeline.engine.run import Run, group_stages
from handface.pipeline.engine.stats import StatsLog
from handface.pipeline.engine.units import UnitRef
from handface.pipeline.engine.worker import StageGroup, Task, Travel, UnitResult, UnitWorker

if TYPE_CHECKING:
    import numpy as np
    from ray.data import Dataset


class LaneWorker:
    """A worker that takes a whole lane. After its process died another starts the lane again and finds the finished units."""

    def __init__(self, group: StageGroup, task: Task) -> None:
        self.worker, self.task = UnitWorker(group, task), task

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """For Ray Data: {"lane": (1,) object array of unit refs} -> one row {"unit": UnitResult} per unit, as each ends."""
        import numpy as np

        for result in self.work(batch["lane"][0]):
            row = np.empty(1, dtype=object)
            row[0] = result
            yield {"unit": row}

    def work(self, lane: Sequence[UnitRef]) -> Iterator[UnitResult]:
        """The units of a lane in order; one that fails for good ends, and the lane goes on."""
        for ref in lane:
            name = part_name(ref.id, "json")
            if self.task.output.exists(name):
                yield UnitResult(ref.id, ref.inputs, Manifest.loads(self.task.output.read(name)), {})
                continue
            result = self.worker.work(Travel(ref))
            assert isinstance(result, UnitResult)
            yield result


def execute_lanes(run: Run, *, workers: int, local: bool = False) -> Iterator[UnitResult]:
    """Work on the pending units lane by lane and yield each as it ends. As `pipeline.graph.execute`, with one owner per host."""
    if not run.pending:
        return
    lanes = [tuple(refs) for _, refs in groupby(run.pending, key=lambda ref: ref.lane)]
    (group,) = group_stages(run.stages)
    results = _in_process(run, group, lanes) if local else _on_ray(run, group, lanes, workers)
    stats = StatsLog(run.task.output, run.task.start)
    try:
        for result in results:
            stats.add(result)
            yield result
            if result.fatal:
                return
    finally:
        stats.publish()


def _in_process(run: Run, group: StageGroup, lanes: Sequence[tuple[UnitRef, ...]]) -> Iterator[UnitResult]:
    worker = LaneWorker(group, run.task)
    try:
        for lane in lanes:
            yield from worker.work(lane)
    finally:
        worker.worker.close()


def _on_ray(run: Run, group: StageGroup, lanes: Sequence[tuple[UnitRef, ...]], workers: int) -> Iterator[UnitResult]:
    import ray.data

    missing = {ref.id: ref for ref in run.pending}
    with cluster(workers, at_least=group.resources.num_cpus) as total:
        most = min(workers or max(1, int(total["CPU"] // max(group.resources.num_cpus, 0.01))), len(lanes))
        dataset: Dataset = ray.data.from_items([{"lane": lane} for lane in lanes], override_num_blocks=len(lanes))
        dataset.context.enable_progress_bars = False
        dataset.context.max_errored_blocks = -1
        dataset = dataset.map_batches(
            LaneWorker,
            fn_constructor_args=(group, replace(run.task, watched=True)),
            batch_size=1,
            batch_format="numpy",
            num_cpus=group.resources.num_cpus,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, max_tasks_in_flight_per_actor=1),
        )
        for row in dataset.iter_rows():
            result: UnitResult = row["unit"]
            if missing.pop(result.unit, None):
                yield result
    for ref in missing.values():
        yield UnitResult(ref.id, ref.inputs, None, {}, "Ray lost it; its logs say more. Run the same command again")
