"""Run the main jobs on an embedded input: render labelled scenes, annotate their pictures beside photos from installed packages and bad files, validate, report. Needs no licence, and no network either."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config:
    """Where the demo writes."""

    output: Path = Path("out/demo")
    """Folder for scenes, input, parts and report; run it again and finished parts stay."""
    scenes: int = 12
    """Synthetic scenes among the pictures."""
    workers: int = 2
    """Ray workers."""
    local: bool = False
    """Without Ray, in this process."""


Step = Callable[[Config], int]


def run(config: Config) -> int:
    """Do one step after the other, as the verbs of their names do. Returns the first exit code that is not 0."""
    code = next((code for step in STEPS if (code := step(config))), 0)
    if code == 0:
        print(f"Open {_report(config).absolute()} in a browser.")
    return code


def render_scenes(config: Config) -> int:
    """Labelled shards of synthetic scenes in scenes/."""
    from jobs import synthesize

    # two parts, so that both workers have something to do
    unit, size = -(-config.scenes // 2), 384
    return synthesize.run(
        synthesize.Config(
            count=config.scenes,
            output=str(_scenes(config)),
            size=size,
            unit_size=unit,
            workers=config.workers,
            local=config.local,
        )
    )


def write_input(config: Config) -> int:
    """Pictures in input/: those of the scenes, package photos, and files that are bad on purpose."""
    from pipeline.demo_input import write_demo_input, write_scene_pictures

    photos = config.output / "input"
    count = len(write_demo_input(photos)) + len(write_scene_pictures(_scenes(config), photos))
    log.info("%d pictures in %s; some are bad on purpose", count, photos)
    return 0


def annotate_pictures(config: Config) -> int:
    """Annotated shards in parts/."""
    from jobs import annotate
    from pipeline.stages.depth import DepthConfig
    from pipeline.stages.pack import PackConfig

    return annotate.run(
        annotate.Config(
            input=(str(config.output / "input"),),
            output=str(_parts(config)),
            unit_size=15,
            workers=config.workers,
            local=config.local,
            depth=DepthConfig(fastdepth=_have_fastdepth()),
            pack=PackConfig(depth_maps=True),
        )
    )


def check_shards(config: Config) -> int:
    """Both sets of shards against the sample contract."""
    from jobs import validate

    return validate.run(validate.Config(shards=(str(_scenes(config)), str(_parts(config)))))


def make_report(config: Config) -> int:
    """report.html of what was annotated."""
    from jobs import report

    return report.run(report.Config(parts=(str(_parts(config)),), output=str(_report(config))))


STEPS: tuple[Step, ...] = (render_scenes, write_input, annotate_pictures, check_shards, make_report)


def _scenes(config: Config) -> Path:
    return config.output / "scenes"


def _parts(config: Config) -> Path:
    return config.output / "parts"


def _report(config: Config) -> Path:
    return config.output / "report.html"


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
