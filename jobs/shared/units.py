"""Work through a prepared run: a bar while it goes, the funnel and what failed at the end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handface.pipeline.engine.run import Run
    from handface.pipeline.engine.worker import UnitResult

log = logging.getLogger(__name__)
_ERRORS_SHOWN = 10


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
