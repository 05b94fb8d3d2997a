"""Render scenes of a hand at a face, with exact 3D labels, into labelled shards.

Scene i of a seed is the same whoever renders it; run the same command again after whatever stopped it. On a Ray cluster:
`ray job submit --working-dir . -- python -m jobs.synthesize --count 100000 --output s3://bucket/synthetic`.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, fields
from typing import Literal

from pipeline.synthesis.make import SynthesisConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(SynthesisConfig):
    """How many scenes, where they go, and what they look like."""

    count: int
    """Scenes to render: ids 0 to count - 1."""
    output: str
    """Folder for the parts: a path or an fsspec URI (s3://, gs://). Given an earlier run's folder, its rest is done."""
    layout: Literal["shards"] = "shards"
    """shards: WebDataset parts as `handface annotate` writes them."""
    workers: int = 0
    """Worker processes; 0 is one per CPU (of the cluster that RAY_ADDRESS names). Any number gives the same bytes."""
    local: bool = False
    """Work in this process, one unit after the other, without Ray."""


def run(config: Config) -> int:
    """Plan, render, show what came out. Returns 0, or 1 if some units failed."""
    from jobs.progress import Progress, print_funnel
    from pipeline.graph import execute, prepare
    from pipeline.synthesis.make import SCHEME, SynthesizeStage, list_scenes

    if config.count < 1:
        raise ValueError(f"--count {config.count}: at least one scene")
    synthesis = SynthesisConfig(**{f.name: getattr(config, f.name) for f in fields(SynthesisConfig)})
    ready = prepare(
        [f"{SCHEME}:{config.seed} 0..{config.count - 1}"],
        synthesis,
        config.output,
        list_inputs=lambda: list_scenes(synthesis, config.count),
        stages=lambda settings, _: [SynthesizeStage(settings)],
    )
    failed = []
    done = ready.finished.inputs
    with Progress("rendering", config.count, done) as progress:
        for result in execute(ready, workers=config.workers, local=config.local):
            if result.manifest is None:
                failed.append(result)
            else:
                ready.finished.add(result.manifest)
            progress.advance(result.inputs)
    print_funnel(ready.finished)
    for result in failed:
        log.error("unit %s (%d scenes) failed: %s", result.unit, result.inputs, result.error)
    return 1 if failed else 0


if __name__ == "__main__":
    from jobs.cli import main_for

    sys.exit(main_for("synthesize"))
