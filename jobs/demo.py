"""Run the main job on pictures that come with the installed packages: annotate, validate, report. Needs no licence, and no network either."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """Where the demo writes."""

    output: Path = Path("out/demo")
    """Folder for input, parts and report; run it again and finished parts stay."""
    workers: int = 2
    """Ray workers."""
    local: bool = False
    """Without Ray, in this process."""


def run(config: Config) -> int:
    """Write the input, then do what `handface annotate`, `validate` and `report` do. Returns the first exit code that is not 0."""
    from jobs import annotate, report, validate
    from pipeline.demo_input import write_demo_input
    from pipeline.stages.depth import DepthConfig
    from pipeline.stages.pack import PackConfig

    photos, parts, page = (config.output / name for name in ("input", "parts", "report.html"))
    count = len(write_demo_input(photos))
    log.info("%d pictures in %s; some are bad on purpose", count, photos)
    settings = annotate.Config(
        input=(str(photos),),
        output=str(parts),
        unit_size=9,  # two parts, so that both workers have something to do
        workers=config.workers,
        local=config.local,
        depth=DepthConfig(fastdepth=_have_fastdepth()),
        pack=PackConfig(depth_maps=True),
    )
    code = annotate.run(settings)
    code = code or validate.run(validate.Config(shards=(str(parts),)))
    code = code or report.run(report.Config(parts=(str(parts),), output=str(page)))
    if code == 0:
        print(f"Open {page.absolute()} in a browser.")
    return code


def _have_fastdepth() -> bool:
    """Whether the small depth network is here or can be fetched; without it the demo shows MediaPipe's relative depth only."""
    from pipeline.model_store import ModelError, ModelStore

    try:
        ModelStore().path("fastdepth")
    except ModelError as error:
        log.warning("going on without dense depth. %s", error)
        return False
    return True


if __name__ == "__main__":
    from jobs.cli import main_for

    sys.exit(main_for("demo"))
