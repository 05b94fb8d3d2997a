"""Render scenes of a hand at a face, with exact 3D labels, into labelled shards or a dataset in Decaf's layout.

Scene i of a seed is the same whoever renders it; run the same command again to continue a run that was stopped. On a Ray cluster:
`ray job submit --working-dir . -- python -m jobs.synthesize --count 100000 --output s3://bucket/synthetic`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal

from handface.jobs.shared.units import one_writer
from handface.pipeline.contract.config import Count
from handface.pipeline.synthesis.make import SynthesisConfig
from handface.pipeline.synthesis.studio.dataset import CaptureConfig


@dataclass(frozen=True, kw_only=True)
class Config(SynthesisConfig):
    """How many scenes, where they go, and what they look like."""

    count: Count
    """Scenes to render: ids 0 to count - 1. With --layout decaf, frames of all subjects together, each seen by all cameras."""
    output: str
    """Folder for the parts: a path or an fsspec URI (s3://, gs://). Given an earlier run's folder, its rest is done."""
    layout: Literal["shards", "decaf"] = "shards"
    """shards: WebDataset parts as `handface annotate` writes them; decaf: videos and annotations as in Decaf, of people moving."""
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    """Subjects, cameras and videos of --layout decaf, which leaves size, unit_size and scenes alone."""
    workers: int = 0
    """Worker processes; 0 is one per CPU (of the cluster that RAY_ADDRESS names). Any number gives the same bytes."""
    local: bool = False
    """Work in this process, one unit after the other, without Ray."""


@one_writer
def run(config: Config) -> int:
    """Plan, render, show what came out. Returns 0, or 1 if some units or subjects failed."""
    if config.count < 1:
        raise ValueError(f"--count {config.count}: at least one scene")
    if config.pictures.backgrounds is not None:
        from handface.pipeline.synthesis.scene.background import background_files

        # what is missing is said now, not once per scene
        background_files(config.pictures.backgrounds)
    return _film(config) if config.layout == "decaf" else _shards(config)


def _shards(config: Config) -> int:
    from handface.jobs.shared.units import run_units
    from handface.pipeline.engine.run import prepare
    from handface.pipeline.engine.units import plan_small_units
    from handface.pipeline.synthesis.make import SCHEME, SynthesizeStage, list_scenes

    synthesis = SynthesisConfig.of(config)
    ready = prepare(
        [f"{SCHEME}:{config.seed} 0..{config.count - 1}"],
        synthesis,
        config.output,
        list_inputs=lambda: list_scenes(synthesis, config.count),
        stages=lambda settings, _: [SynthesizeStage(settings)],
        plan_with=plan_small_units,
    )
    return run_units(ready, "rendering", workers=config.workers, local=config.local)


def _film(config: Config) -> int:
    from pathlib import Path

    from handface.jobs.shared.units import run_units
    from handface.pipeline.engine.run import prepare
    from handface.pipeline.synthesis.studio.capture import write_shared
    from handface.pipeline.synthesis.studio.dataset import StudioConfig
    from handface.pipeline.synthesis.studio.film import SCHEME, FilmStage, list_subjects, run_folder

    if "://" in config.output:
        raise ValueError(f"--output {config.output}: --layout decaf writes videos and needs a folder on a file system")
    root = Path(config.output).resolve()
    dataset = StudioConfig(seed=config.seed, frames=config.count, capture=config.capture, pictures=config.pictures)
    ready = prepare(
        [f"{SCHEME}:{config.seed}"],
        dataset,
        run_folder(root),
        list_inputs=lambda: list_subjects(dataset),
        stages=lambda settings, _: [FilmStage(root, settings)],
    )
    write_shared(root, dataset)
    if status := run_units(ready, "filming", workers=config.workers, local=config.local):
        return status
    subjects, cameras = config.capture.subjects, config.capture.cameras
    print(f"{config.count} frames of {subjects} subjects, each from {cameras} cameras, in {config.output}")
    print(
        f"next: handface decaf-to-shards --decaf {config.output} --hand-model free-hand --head-model free-head "
        "--licence CC0-1.0 --author handface --output FOLDER"
    )
    return 0


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("synthesize"))
