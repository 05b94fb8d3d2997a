"""What verbs that write parts share: one of them per output folder; a bar while units are worked on, then the funnel and what failed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handface.pipeline.engine.run import Run
    from handface.pipeline.engine.worker import UnitResult

log = logging.getLogger(__name__)
_ERRORS_SHOWN = 10


def one_writer(run: Callable[[Any], int]) -> Callable[[Any], int]:
    """Wrap a verb's `run`: it ends with LockedError while another command writes to the same `--output`; with `--check`, nobody writes."""

    @wraps(run)
    def locked(config: Any) -> int:
        if getattr(config, "check", False):
            return run(config)
        with _hold(config.output, run.__module__.rpartition(".")[2]):
            return run(config)

    return locked


@contextmanager
def _hold(output: str, verb: str) -> Iterator[None]:
    from handface.pipeline.contract.lock import lock_folder
    from handface.pipeline.contract.storage import Folder, absolute

    folder = Folder(absolute(output))
    if not folder.local:
        # Objects appear whole, and a run whose machine was taken away is started again at once: it waits for nobody.
        yield
        return
    with lock_folder(folder, verb.replace("_", "-")):
        yield


def run_units(ready: Run, what: str, *, workers: int, local: bool) -> int:
    """Execute the pending units and add them to the run's funnel; `what` is said beside the bar. Returns 0, or 1 if some failed."""
    from handface.jobs.shared.progress import Progress, print_funnel
    from handface.pipeline.contract.inputs import Reason
    from handface.pipeline.engine.executor import execute

    failed: list[UnitResult] = []
    left = len(ready.pending)
    with Progress(what, ready.inputs, ready.finished.inputs) as progress:
        for result in execute(ready, workers=workers, local=local):
            left -= 1
            if result.manifest is None:
                failed.append(result)
            else:
                ready.finished.add(result.manifest)
            progress.advance(result.inputs, f", {ready.finished.kept:,} kept, {len(failed)} units failed")
    print_funnel(ready.finished)
    for result in failed[:_ERRORS_SHOWN]:
        log.error("unit %s (%d inputs) failed: %s", result.unit, result.inputs, result.error)
    if errors := sum(reasons[Reason.FAILED] for reasons in ready.finished.rejected.values()):
        log.warning("%d inputs caused an error in a stage (reason `failed`); their rows' detail says which", errors)
    if failed:
        log.error(
            "%d units failed, %d were not tried; tracebacks are in %s/stats. Run the same command again for the rest",
            *(len(failed), left, ready.task.output.uri),
        )
    return 1 if failed else 0
