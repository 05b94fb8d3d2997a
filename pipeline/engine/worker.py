"""What happens to one unit in one process: its stages in micro-batches, retries, and at the end its part.

The same class runs in a Ray actor and, with `--local`, in the driver.
"""

from __future__ import annotations

import copy
import ctypes
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.parts import Manifest
from handface.pipeline.contract.storage import Folder, StorageError
from handface.pipeline.engine.parts import build_part, write_part
from handface.pipeline.engine.record import Record, Resources, Stage, run_stages
from handface.pipeline.engine.units import UnitRef, read_unit

if TYPE_CHECKING:
    import numpy as np

log = logging.getLogger(__name__)
LIST = "list"  # the stage name of list rows that name no readable input
MICRO_BATCH = 8  # photos in full size that a worker holds at once
MARKS = "stats/working"  # a mark per unit that is being worked on
ATTEMPTS = 3  # per unit, counting errors and deaths of its process each
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
    watched: bool = False  # whether workers can die alone, so that crashes must be counted


@dataclass
class Travel:
    """A unit on its way from group to group; records is None before the first. Carries what went wrong, if anything did."""

    ref: UnitRef
    records: list[Record] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    trace: str = ""
    fatal: bool = False

    def fail(self, error: str, trace: str = "", fatal: bool = False) -> Travel:
        """The same unit, given up; `fatal` when every other unit would fail as well."""
        return Travel(self.ref, None, self.seconds, error, trace, fatal)


@dataclass(frozen=True)
class UnitResult:
    """How a unit ended: with a manifest, or with an error for people. seconds: {stage: seconds}, this run's only."""

    unit: str
    inputs: int
    manifest: Manifest | None
    seconds: dict[str, float]
    error: str | None = None
    trace: str = ""
    fatal: bool = False


class WorkerDiedError(RuntimeError):
    """A unit took its process with it as often as is allowed."""


class UnitWorker:
    """The stages of one group, set up once; called with one unit at a time."""

    def __init__(self, group: StageGroup, task: Task) -> None:
        tune_process()
        self.group, self.task = group, task
        self._broken: tuple[str, str] | None = None  # error and trace of a stage that could not be set up
        for stage in group.stages:
            try:
                stage.setup()
            except (
                Exception
            ) as error:  # reported with the first unit: an actor that dies in its constructor explains less
                self._broken = f"cannot set up stage {stage.name}: {_describe(error)}", traceback.format_exc()
                break
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """For Ray Data: {"unit": (1,) object array of Travel} -> the same with Travel, or UnitResult after the last group."""
        import numpy as np

        worked = np.empty(1, dtype=object)
        worked[0] = self.work(batch["unit"][0])
        return {"unit": worked}

    def close(self) -> None:
        """Let stages that hold connections close them; a worker process that simply ends needs no such care."""
        for stage in self.group.stages:
            close = getattr(stage, "close", None)
            if close is not None:
                close()

    def work(self, travel: Travel) -> Travel | UnitResult:
        """Pass a unit through the group, trying again when something raises. Never raises for a unit's own trouble."""
        if self._broken is not None and travel.error is None:
            travel = travel.fail(*self._broken, fatal=True)
        for attempt in range(1, ATTEMPTS + 1):
            if travel.error is not None:
                break
            try:
                with self._watch(travel.ref):
                    return self._attempt(travel)
            except WorkerDiedError as error:
                travel = travel.fail(str(error))
            except StorageError as error:
                travel = travel.fail(str(error), traceback.format_exc(), fatal=True)
            except Exception as error:
                log.warning("unit %s, attempt %d of %d: %s", travel.ref.id, attempt, ATTEMPTS, error, exc_info=True)
                if attempt == ATTEMPTS:
                    travel = travel.fail(_describe(error), traceback.format_exc())
        return self._end(travel, None) if self.group.last else travel

    def _attempt(self, travel: Travel) -> Travel | UnitResult:
        seconds = dict(travel.seconds)
        if travel.records is None:
            records = [_new_record(item) for item in read_unit(self.task.output, travel.ref).items]
        else:
            records = copy.deepcopy(
                travel.records
            )  # stages change records in place; a further attempt needs them fresh
        self._run_stages(records, seconds)
        travel = Travel(travel.ref, records, seconds)
        if not self.group.last:
            return travel
        start = time.perf_counter()
        part = build_part(travel.ref.id, records, (LIST, *self.task.stages), self.task.fingerprint)
        write_part(self.task.output, part)
        seconds["write"] = time.perf_counter() - start
        return self._end(travel, part.manifest)

    def _run_stages(self, records: Sequence[Record], seconds: dict[str, float]) -> None:
        stages = self.group.stages
        for stage in stages:
            stage.start_unit()
        step = self.task.batch
        for start in range(0, len(records), step):
            passed = 0
            try:
                for name, spent in run_stages(stages, records[start : start + step]):
                    seconds[name] = seconds.get(name, 0.0) + spent
                    passed += 1
            except Exception as error:
                names = ", ".join(record.item.name for record in records[start : start + step] if record.alive)
                error.add_note(f"in stage {stages[passed].name}, on one of: {names}")
                raise

    @contextmanager
    def _watch(self, ref: UnitRef) -> Iterator[None]:
        """Leave a mark while a unit is worked on. A mark found at the start means that the process working on it died."""
        if not self.task.watched:
            yield
            return
        output, mark = self.task.output, f"{MARKS}/{self.task.start}-{ref.id}-{self.group.stages[0].name}"
        deaths = len(output.read(mark)) if output.exists(mark) else 0
        if deaths >= ATTEMPTS:
            output.remove(mark)
            raise WorkerDiedError(
                f"its worker process died {deaths} times (killed, out of memory, or a crash in native code) in stages "
                + ", ".join(stage.name for stage in self.group.stages)
            )
        output.write(mark, b"x" * (deaths + 1))
        try:
            yield
        finally:
            output.remove(mark)

    @staticmethod
    def _end(travel: Travel, manifest: Manifest | None) -> UnitResult:
        ref = travel.ref
        return UnitResult(ref.id, ref.inputs, manifest, travel.seconds, travel.error, travel.trace, travel.fatal)


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


def _new_record(item: SourceItem) -> Record:
    record = Record(item)
    if item.problem is not None:
        record.reject(item.problem, item.detail)
        record.stage = LIST
    return record


def _describe(error: Exception) -> str:
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{type(error).__name__}: {error}" + (f" ({notes})" if notes else "")
