"""What a step of the pipeline is, whether steps fit together, and the one guard around what an input does inside them."""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.storage import StorageError
from handface.pipeline.engine.libraries import PIXELS
from handface.pipeline.engine.record import Record

ATTEMPTS = 3  # of an input in a stage that raises, and of a unit whose attempt fails
_ENDS = {"sample", "packed", "reason"}  # one of these must be written for a record to end
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ACCELERATOR = ("OutOfMemoryError", "AcceleratorError")  # torch's; named, so that torch need not be there
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


class ChainError(ValueError):
    """Stages that do not fit together; the message names the stage and the field."""


@dataclass(frozen=True)
class Resources:
    """What one instance of a stage needs, in Ray's units. Neighbouring stages with equal resources share an actor."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0


@dataclass(frozen=True)
class Passage:
    """What happened to a batch in one stage. errors: those that ended an input each."""

    stage: str
    seconds: float
    entered: int
    errors: list[Exception]


class Stage:
    """A step of the pipeline: takes live records, fills fields in or rejects, returns nothing (records are mutated).

    Construction is cheap and picklable; models are loaded in `setup`, once per process. A call that raises leaves the stage as it
    was before, since the engine then asks again with one record at a time; arrays of a record are replaced, never written into.

    Attributes:
        name: Stands in the rows of parts, in the funnel and on the dashboard.
        reads: Fields of `Record` that earlier stages must have written.
        writes: Fields it fills in.
        drops: Fields it empties, which later stages cannot read.
        resources: What one instance needs.
        version: Raise it when the same records and config give other bytes; a run joins only its own versions.
        libraries: Those that decide what it makes of a picture (engine/libraries.py); a run joins only their same versions.
        guarded: Whether an error inside a call ends the input it meets; without, it fails the unit, which is tried again.
        limit: Seconds that one call may take where a worker process can be stopped (on Ray); None for no limit.
    """

    name: str = ""
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()
    resources: Resources = Resources()
    version: int = 1
    libraries: tuple[str, ...] = PIXELS
    guarded: bool = True
    limit: float | None = 900.0

    @property
    def off(self) -> bool:
        """Whether its configuration leaves it nothing to decide; funnels do not show it then."""
        return False

    def setup(self) -> None:
        """Load what is heavy; called once in the process that will run the stage."""

    def start_unit(self) -> None:
        """Forget whatever was remembered of the unit before, so that units stay independent of each other."""

    def close(self) -> None:
        """Close what `setup` and the calls have opened."""

    def __call__(self, batch: Sequence[Record]) -> None:
        """Work on the live records of one batch in place."""
        raise NotImplementedError(f"stage {self.name} does nothing")

    def host_waits(self) -> dict[str, float]:
        """{host: seconds} that requests have waited for a host's turn since the last call, for the dashboard."""
        return {}


def check_chain(stages: Sequence[Stage]) -> None:
    """Raise ChainError if a stage reads what no stage before it writes, or if nothing could ever be kept."""
    names = {field.name for field in fields(Record)}
    written = {"item"}
    for stage in stages:
        if unknown := sorted({*stage.reads, *stage.writes, *stage.drops} - names):
            raise ChainError(f"stage {stage.name} names {', '.join(unknown)}: no field of a record")
        if missing := sorted(set(stage.reads) - written):
            dropped = [other.name for other in stages if set(missing) & set(other.drops)]
            hint = f" ({', '.join(dropped)} drops it)" if dropped else ""
            raise ChainError(f"stage {stage.name} reads {', '.join(missing)}, which no stage before it leaves{hint}")
        written = (written | set(stage.writes)) - set(stage.drops)
    if not written & _ENDS:
        raise ChainError(f"none of the stages {', '.join(s.name for s in stages)} writes {' or '.join(sorted(_ENDS))}")


def run_stages(
    stages: Sequence[Stage],
    batch: Sequence[Record],
    around: Callable[[Stage], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> Iterator[Passage]:
    """Pass a batch through stages in order, each seeing only live records; yields what happened in each as it goes.

    around: makes the context in which a stage works.
    """
    for stage in stages:
        live = [record for record in batch if record.alive]
        if not live:
            return
        start = time.perf_counter()
        with around(stage):
            errors = _run_guarded(stage, live)
        for record in live:
            if not record.alive:
                record.stage = stage.name
        yield Passage(stage.name, time.perf_counter() - start, len(live), errors)


def _run_guarded(stage: Stage, live: Sequence[Record]) -> list[Exception]:
    """What one input does in a stage ends that input as `failed`, and its neighbours go on.

    After an exception each record is asked alone, from the state it came in. Returns the errors that ended a record.
    Raises what is nobody's fault: a full disk, an accelerator that is gone or full.
    """
    if not stage.guarded:
        stage(live)
        return []
    before = [record.snapshot() for record in live]
    try:
        stage(live)
        return []
    except Exception as error:
        _raise_if_environment(error)
        last = error
    for record, state in zip(live, before, strict=True):
        record.restore(state)
    errors = []
    for record, state in zip(live, before, strict=True):
        for _ in range(ATTEMPTS - 1):
            try:
                stage([record])
                break
            except Exception as error:
                _raise_if_environment(error)
                record.restore(state)
                last = error
        else:
            reject_failed(record, last)
            errors.append(last)
    return errors


def reject_failed(record: Record, error: Exception) -> None:
    """End a record's way for what it did inside a stage; the detail is the same in every run.

    Raises the error instead if it is nobody's fault: StorageError for a full disk, an accelerator that is gone or full.
    """
    _raise_if_environment(error)
    record.reject(Reason.FAILED, describe(error))


def describe(error: BaseException) -> str:
    """An exception in one line: its type, text and notes."""
    notes = "; ".join(getattr(error, "__notes__", ()))
    return without_addresses(f"{type(error).__name__}: {error}" + (f" ({notes})" if notes else ""))


def without_addresses(text: str) -> str:
    """The text without addresses of objects, so that it is the same in every run."""
    return _ADDRESS.sub("", text)


def _raise_if_environment(error: Exception) -> None:
    """Raise what would meet every input alike: StorageError for a full disk, the error itself for an accelerator's."""
    if isinstance(error, OSError) and error.errno in _FULL and not isinstance(error, StorageError):
        raise StorageError(error.errno, f"{error}. Free some space and run the same command again") from error
    if isinstance(error, StorageError) or type(error).__name__ in _ACCELERATOR or "CUDA" in str(error):
        raise error
