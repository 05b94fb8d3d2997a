"""What happens to one unit in one process: its stages in micro-batches, retries, and at the end its part.

The same class runs in a Ray actor and, with `--local`, in the driver.
"""

from __future__ import annotations

import copy
import ctypes
import faulthandler
import logging
import os
import platform
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.parts import Manifest, find_part
from handface.pipeline.contract.storage import Folder, StorageError
from handface.pipeline.engine.libraries import differing, installed
from handface.pipeline.engine.marks import UnitMark, WorkerDiedError
from handface.pipeline.engine.parts import write_part
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import ATTEMPTS, Resources, Stage, describe, run_stages
from handface.pipeline.engine.units import UnitRef, read_unit

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
LIST = "list"  # the stage name of list rows that name no readable input
MICRO_BATCH = 8  # photos in full size that a worker holds at once
_GPU_BATCH = 64  # the least on a GPU, whose worker holds its units whole: others have filled the photos in
_TROUBLE = 8  # inputs of a unit that all fail in a stage make it the stage's trouble, not theirs
_HOSTS = 20  # of a unit, whose waiting is told
_KEEP_FREED_BYTES = 256 << 20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h


@dataclass(frozen=True)
class StageGroup:
    """Neighbouring stages with equal resources: they share one actor."""

    stages: tuple[Stage, ...]
    resources: Resources
    last: bool  # the group that writes the parts


@dataclass(frozen=True)
class Task:
    """What every worker of a run is told."""

    output: Folder
    fingerprint: str
    stages: tuple[str, ...]  # the names of all groups' stages, for the manifests
    start: str  # names this start of the run
    batch: int = MICRO_BATCH  # inputs that pass the stages together
    watched: bool = False  # whether workers can die alone, so that deaths must be counted
    libraries: dict[str, str] = field(default_factory=dict)  # {library: version} that every worker must have


@dataclass
class WorkItem:
    """A unit on its way from group to group; records is None before the first. Carries what went wrong, if anything did."""

    ref: UnitRef
    records: list[Record] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    host_waits: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    trace: str = ""
    fatal: bool = False

    def fail(self, error: str, trace: str = "", fatal: bool = False) -> WorkItem:
        """The same unit, given up; `fatal` when every other unit would fail as well."""
        return WorkItem(self.ref, None, self.seconds, self.host_waits, error, trace, fatal)

    def end(self, manifest: Manifest | None) -> UnitResult:
        """How it ended."""
        ref = self.ref
        return UnitResult(
            ref.id, ref.inputs, manifest, self.seconds, self.host_waits, self.error, self.trace, self.fatal
        )


@dataclass(frozen=True)
class UnitResult:
    """How a unit ended: with a manifest, or with an error for people.

    Attributes:
        seconds: {stage: seconds}, this run's only.
        host_waits: {host: seconds} that requests waited for a host's turn, of the slowest hosts.
    """

    unit: str
    inputs: int
    manifest: Manifest | None
    seconds: dict[str, float] = field(default_factory=dict)
    host_waits: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    trace: str = ""
    fatal: bool = False


class StageTroubleError(RuntimeError):
    """A stage fails whatever the input: the trouble is its own, and the inputs are not to blame."""


class UnitWorker:
    """The stages of one group, set up once; works on units one after the other."""

    def __init__(self, group: StageGroup, task: Task) -> None:
        tune_process()
        self.group, self.task = group, task
        self._broken: tuple[str, str] | None = None  # error and trace of a stage that could not be set up
        if changed := differing(task.libraries, installed(task.libraries)):
            told = ", ".join(f"{name} is {here}, not {wanted}" for name, (wanted, here) in changed.items())
            self._broken = (f"{platform.node()} has other libraries than the machine that started the run: {told}", "")
            return
        for stage in group.stages:
            try:
                stage.setup()
            except Exception as error:
                # Reported with the first unit: an actor that dies in its constructor explains less.
                self._broken = f"cannot set up stage {stage.name}: {describe(error)}", traceback.format_exc()
                break
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """For Ray Data: a row holds the units of a lane in order (a tuple of WorkItem); yields a row per unit as each ends.

        The rows of the last group hold a UnitResult each.
        """
        import numpy as np

        for item in batch["units"][0]:
            row = np.empty(1, dtype=object)
            row[0] = (self.work(item),)
            yield {"units": row}

    def close(self) -> None:
        """Let stages close what they hold; a worker process that simply ends needs no such care."""
        for stage in self.group.stages:
            stage.close()

    def work(self, item: WorkItem) -> WorkItem | UnitResult:
        """Pass a unit through the group, trying again when something raises. Never raises for a unit's own trouble."""
        if item.records is None and item.error is None and (manifest := find_part(self.task.output, item.ref.id)):
            return item.end(manifest)  # of a lane whose first worker died, or by another start of the run
        if self._broken is not None and item.error is None:
            item = item.fail(*self._broken, fatal=True)
        for attempt in range(1, ATTEMPTS + 1):
            if item.error is not None:
                break
            try:
                return self._attempt(item)
            except (WorkerDiedError, StageTroubleError) as error:
                item = item.fail(str(error), traceback.format_exc())
            except StorageError as error:
                item = item.fail(f"{error}; finished parts are kept", traceback.format_exc(), fatal=True)
            except Exception as error:
                log.warning("unit %s, attempt %d of %d: %s", item.ref.id, attempt, ATTEMPTS, error, exc_info=True)
                if attempt == ATTEMPTS:
                    item = item.fail(describe(error), traceback.format_exc())
        return item.end(None) if self.group.last else item

    def _attempt(self, item: WorkItem) -> WorkItem | UnitResult:
        if item.records is None:
            records = [_new_record(listed) for listed in read_unit(self.task.output, item.ref).items]
        else:  # stages change records in place; a further attempt needs them fresh
            records = copy.deepcopy(item.records)
        item = WorkItem(item.ref, records, dict(item.seconds), dict(item.host_waits))
        with self._mark(item.ref) as mark:
            self._run_stages(item, records, mark)
            if not self.group.last:
                return item
            start = time.perf_counter()
            task = self.task
            manifest = write_part(task.output, item.ref.id, records, (LIST, *task.stages), task.fingerprint)
            item.seconds["write"] = time.perf_counter() - start
            return item.end(manifest)

    def _run_stages(self, item: WorkItem, records: Sequence[Record], mark: UnitMark | None) -> None:
        stages = self.group.stages
        for stage in stages:
            stage.start_unit()
        if mark is not None:
            for index in mark.guilty:
                records[index].reject(Reason.FAILED, mark.verdict())
                records[index].stage = stages[0].name
        entered, failed = Counter[str](), dict[str, list[Exception]]()
        step = max(self.task.batch, _GPU_BATCH if self.group.resources.num_gpus else 0)
        spans = [range(start, min(start + step, len(records))) for start in range(0, len(records), step)]
        for span in mark.narrow(spans) if mark is not None else spans:
            for passage in run_stages(stages, [records[index] for index in span], self._limited):
                item.seconds[passage.stage] = item.seconds.get(passage.stage, 0.0) + passage.seconds
                entered[passage.stage] += passage.entered
                failed.setdefault(passage.stage, []).extend(passage.errors)
        for name, errors in failed.items():
            if len(errors) == entered[name] >= _TROUBLE:
                raise StageTroubleError(
                    f"stage {name} failed for each of {len(errors)} inputs, last {describe(errors[-1])}"
                )
        waits = Counter[str]()
        for stage in stages:
            waits.update(stage.host_waits())
        item.host_waits = dict(waits.most_common(_HOSTS)) or item.host_waits

    @contextmanager
    def _limited(self, stage: Stage) -> Iterator[None]:
        """End the process when a stage hangs, also inside native code; the unit's mark then tells which input it was."""
        if not self.task.watched or stage.limit is None:
            yield
            return
        faulthandler.dump_traceback_later(stage.limit, exit=True)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()

    @contextmanager
    def _mark(self, ref: UnitRef) -> Iterator[UnitMark | None]:
        """Leave a mark while a unit is worked on. A mark found at the start means that the process working on it died."""
        if not self.task.watched:
            yield None
            return
        names = tuple(stage.name for stage in self.group.stages)
        mark = UnitMark.begin(self.task.output, f"{self.task.start}-{ref.id}-{names[0]}", names)
        try:
            yield mark
        finally:
            mark.remove()


def tune_process() -> None:
    """One thread per model instance, and freed photo buffers kept for the next photo. Call before models are loaded.

    Several one-threaded processes beat a few that spin on each other's cores; a fresh mmap for each decoded photo costs as
    much as decoding it.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    import cv2

    cv2.setNumThreads(1)
    mallopt: Any = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc only
        mallopt(_M_MMAP_THRESHOLD, _KEEP_FREED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_FREED_BYTES)


@contextmanager
def threads_restored() -> Iterator[None]:
    """Undo what `tune_process` and stages set of threads, for a process that goes on with something else."""
    import cv2

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before, opencv = {name: os.environ.get(name) for name in names}, cv2.getNumThreads()
    torch = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        cv2.setNumThreads(opencv)
        if torch is not None:
            sys.modules["torch"].set_num_threads(torch)


def _new_record(item: SourceItem) -> Record:
    record = Record(item)
    if item.problem is not None:
        record.reject(item.problem, item.detail)
        record.stage = LIST
    return record
