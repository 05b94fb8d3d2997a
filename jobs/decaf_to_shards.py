"""Turn Decaf, or a dataset in its layout, into labelled shards.

Run the same command again to continue a run that was stopped. On a Ray cluster (the dataset on a file system that all nodes see):
`ray job submit --working-dir . -- python -m jobs.decaf_to_shards --decaf /data/DecafDataset --output s3://bucket/decaf`.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace

from handface.jobs.shared.units import one_writer
from handface.pipeline.decaf.config import DecafConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Config(DecafConfig):
    """Which frames, and where they go."""

    output: str
    """Folder for the parts: a path or an fsspec URI (s3://, gs://). Given an earlier run's folder, its rest is done."""
    workers: int = 0
    """Worker processes; 0 is one per CPU (of the cluster that RAY_ADDRESS names). Any number gives the same bytes."""
    local: bool = False
    """Work in this process, one unit after the other, without Ray."""


@one_writer
def run(config: Config) -> int:
    """Check the dataset, convert, show what came out. Returns 0, or 1 if some units failed."""
    from pathlib import Path

    from handface.jobs.shared.units import run_units
    from handface.pipeline.decaf.convert import ConvertStage, list_frames, open_bodies
    from handface.pipeline.decaf.layout import SPLITS
    from handface.pipeline.engine.run import prepare

    decaf = DecafConfig.of(config)
    root = Path(decaf.decaf).expanduser().resolve()
    if not any((root / split).is_dir() for split in SPLITS):
        problem = "no dataset in it" if root.is_dir() else "no such folder"
        raise FileNotFoundError(
            f"--decaf {config.decaf}: {problem}; give the folder that holds train/, test/ and assets/"
        )
    decaf = replace(decaf, decaf=str(root))
    open_bodies(decaf)  # what is missing is said now, not once per worker
    ready = prepare(
        [decaf.decaf],
        decaf,
        config.output,
        list_inputs=lambda: list_frames(decaf),
        stages=lambda settings, _: [ConvertStage(settings)],
    )
    return run_units(ready, "converting", workers=config.workers, local=config.local)


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("decaf-to-shards"))
