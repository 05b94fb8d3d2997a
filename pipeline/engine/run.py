"""Prepares a run: its config is checked against the folder's, its units are planned once, and what is finished is counted.

    inputs -> units -> stages -> parts

Whatever happens to workers, a unit ends in the same part: parts are pure functions of inputs, config and the stages' versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.sample import SCHEMA_VERSION
from handface.pipeline.contract.storage import Folder, absolute
from handface.pipeline.engine.funnel import Funnel
from handface.pipeline.engine.libraries import installed
from handface.pipeline.engine.run_record import RUN, RunConfig, RunRecord, check_same, first_day, open_run, require_kind
from handface.pipeline.engine.stage import Stage, check_chain
from handface.pipeline.engine.units import UnitRef, plan_units, read_plan
from handface.pipeline.engine.worker import MICRO_BATCH, Task


@dataclass
class Run:
    """A planned run: what is left to do, and the funnel of what earlier starts have finished."""

    day: str
    task: Task
    stages: Sequence[Stage]
    pending: list[UnitRef]
    finished: Funnel = field(default_factory=Funnel)

    @property
    def inputs(self) -> int:
        """Inputs of all units, finished or not."""
        return self.finished.inputs + sum(ref.inputs for ref in self.pending)


def prepare(
    inputs: Sequence[str],
    config: RunConfig,
    output: str,
    *,
    list_inputs: Callable[[], Iterable[SourceItem]],
    stages: Callable[[Any, str], Sequence[Stage]],
    progress: Callable[[int], None] = lambda _: None,
    plan_with: Callable[..., list[UnitRef]] = plan_units,
    batch: int = MICRO_BATCH,
) -> Run:
    """Join or start the run in `output`: check its config and chain, plan its units once, see which parts exist.

    Args:
        inputs: What the user named, kept in the run's record.
        config: Decides, with inputs and stages, the bytes of the parts.
        output: Folder of the parts, a path or an fsspec URI.
        list_inputs: The streaming listing, called only if there is no plan yet.
        stages: Makes the stages from the config and the UTC day of the run's first start.
        progress: Gets the inputs of each unit as it is planned.
        plan_with: Cuts the listing into units, as `plan_units`.
        batch: Inputs that pass the stages together.

    Raises:
        ChainError: The stages do not fit together.
        ConfigMismatchError: The folder's run differs, by the names of the fields, or it holds a crawl.
        StorageError: The folder cannot be written.
    """
    folder = Folder(absolute(output))
    require_kind(folder, crawl=False)
    plan = read_plan(folder)
    record, built = _record(folder, inputs, config, stages, planned=plan is not None)
    open_run(folder, record, planned=plan is not None)
    fingerprint = config.digest(SCHEMA_VERSION, record.stages)
    if plan is None:
        try:
            plan = plan_with(list_inputs(), folder, config.unit_size, fingerprint, progress)
        except Exception:
            with suppress(OSError):
                folder.remove(RUN)
            raise
    finished, done = _finished(folder)
    started = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    task = Task(
        folder,
        fingerprint,
        tuple(stage.name for stage in built if not stage.off),
        start=started,
        batch=batch,
        libraries=record.libraries,
    )
    return Run(record.day, task, built, [ref for ref in plan if ref.id not in done], finished)


def finished_of(
    inputs: Sequence[str],
    config: Callable[[], RunConfig],
    output: str,
    *,
    stages: Callable[[Any, str], Sequence[Stage]],
) -> Funnel | None:
    """What is finished of the run in `output` that `prepare` would join, or None if it has none; nothing is written.

    Args:
        inputs: As for `prepare`.
        config: Makes the config; called only if there is a run.
        output: As for `prepare`.
        stages: As for `prepare`.

    Raises:
        ChainError: The stages do not fit together.
        ConfigMismatchError: The folder's run differs, by the names of the fields, or it holds a crawl.
    """
    folder = Folder(absolute(output))
    require_kind(folder, crawl=False)
    if read_plan(folder) is None:
        return None
    record, _ = _record(folder, inputs, config(), stages, planned=True)
    check_same(folder, record, planned=True)
    return _finished(folder)[0]


def _finished(folder: Folder) -> tuple[Funnel, set[str]]:
    """What the finished parts of a folder add up to, and the units that they are of."""
    funnel, units = Funnel(), set()
    for part in read_parts(folder):
        funnel.add(part.manifest)
        units.add(part.manifest.unit)
    return funnel, units


def _record(
    folder: Folder,
    inputs: Sequence[str],
    config: RunConfig,
    stages: Callable[[Any, str], Sequence[Stage]],
    *,
    planned: bool,
) -> tuple[RunRecord, Sequence[Stage]]:
    """What a run with these stages keeps of itself, and the stages. Raises ChainError, ConfigMismatchError."""
    day = first_day(folder, planned=planned)
    built = stages(config, day)
    check_chain(built)
    versions = {stage.name: stage.version for stage in built}
    libraries = installed(name for stage in built for name in stage.libraries)
    return RunRecord(day, tuple(inputs), config.as_dict(), versions, libraries), built
