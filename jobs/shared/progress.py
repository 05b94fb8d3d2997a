"""Progress of a run: a bar on a terminal, a line every few seconds elsewhere, and the funnel at the end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from handface.counted import counted
from handface.jobs.shared.messages import pause_after, wants_bar

if TYPE_CHECKING:
    from handface.pipeline.engine.funnel import Funnel

log = logging.getLogger(__name__)


class Progress:
    """Counts inputs, or what `unit` says, as they are listed or their units end. Use as a context manager.

    Without a terminal a line is logged every few seconds, also while no unit ends.

    Args:
        what: What is being done.
        total: Inputs there will be; None while listing.
        done: Those that earlier starts finished.
        unit: What is counted, in the plural.
    """

    def __init__(self, what: str, total: int | None = None, done: int = 0, unit: str = "inputs") -> None:
        from rich import progress
        from rich.console import Console

        columns: list[progress.ProgressColumn | str] = [f"{what}: {{task.completed:,}} {unit}"]
        if total is not None:
            columns = [f"{what} {{task.completed:,}}/{{task.total:,}}", progress.BarColumn()]
            columns += [progress.TaskProgressColumn(), progress.TimeElapsedColumn(), "{task.fields[text]}"]
        self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True, disable=not wants_bar())
        self._task = self._bar.add_task(what, total=total, completed=done, text="")
        self._what, self._total, self._done, self._here, self._note = what, total, done, 0, ""
        self._unit = unit
        self._start = time.monotonic()
        self._ended = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Progress:
        self._bar.start()
        if self._bar.disable:
            self._heart.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._bar.stop()
        if self._heart.ident is not None:
            self._heart.join()

    def advance(self, inputs: int, note: str = "") -> None:
        """Count `inputs` more; `note` is shown beside the rate."""
        self._here += inputs
        self._note = note
        self._bar.update(self._task, advance=inputs, text=f"{self._rate()}{note}")

    def _beat(self) -> None:
        while not self._ended.wait(pause_after(time.monotonic() - self._start)):
            of = f"/{self._total:,}" if self._total is not None else ""
            done = f"{self._done + self._here:,}{of} {self._unit}"
            log.info("%s: %s, %s%s", self._what, done, self._rate(), self._note)

    def _rate(self) -> str:
        seconds = time.monotonic() - self._start
        rate = self._here / max(seconds, 1e-9)
        if self._total is None:
            return f"{rate:.0f} {self._unit}/s"
        if not self._here:
            return f"{seconds:.0f} s so far"
        left = (self._total - self._done - self._here) / max(rate, 1e-9)
        return f"{rate:.1f} {self._unit}/s, {int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left"


@contextmanager
def byte_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes with rate and time left; yields a function to be told how many bytes more are done, and of how many."""
    from rich import progress
    from rich.console import Console

    columns: list[progress.ProgressColumn | str] = [what, progress.BarColumn(), progress.DownloadColumn()]
    columns += [progress.TransferSpeedColumn(), progress.TimeRemainingColumn()]
    console = Console(stderr=True)
    with progress.Progress(*columns, console=console, transient=True, disable=not wants_bar()) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, advance=done, total=total)


def print_funnel(funnel: Funnel) -> None:
    """The funnel as a table on stdout: what enters and leaves each stage, and why the others stay behind."""
    from rich.console import Console
    from rich.table import Table

    parts = counted(funnel.parts, "part")
    table = Table(title=f"{funnel.kept:,} of {funnel.inputs:,} inputs kept, in {parts}", title_justify="left")
    table.add_column("stage")
    table.add_column("in", justify="right")
    table.add_column("out", justify="right")
    table.add_column("turned away")
    if funnel.ended:
        table.add_column("done without a sample")
    for row in funnel.rows():
        texts = [
            ", ".join(f"{reason} {count:,}" for reason, count in found.items()) for found in (row.reasons, row.ended)
        ]
        table.add_row(row.stage, f"{row.entered:,}", f"{row.passed:,}", *texts[: len(table.columns) - 3])
    Console().print(table)
