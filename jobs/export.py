"""Finished parts in, a dataset to publish out: shuffled shards, splits, index, card, licence ledger, Croissant, checksums.

Nothing is decoded: samples are copied as they lie. The same parts and flags give the same bytes; the manifest is written last.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from handface.counted import counted
from handface.pipeline.export.config import ExportConfig


@dataclass(frozen=True, kw_only=True)
class Config(ExportConfig):
    """Which parts, where to, and how the release is cut."""

    parts: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Folders or URIs that hold parts."""
    output: str
    """Folder or fsspec URI (s3://, gs://, hf://) of the release."""
    coco: str | None = None
    """Also write pictures and COCO keypoints for annotation tools (FiftyOne's COCODetectionDataset) to this folder."""
    checksums: bool = False
    """Also read every file of the parts first and compare its checksum; without, sizes and tables are looked at."""


def run(config: Config) -> int:
    """Export, say what came out. Returns 0, or 1 if damaged parts were left out."""
    from handface.jobs.shared.progress import byte_progress
    from handface.pipeline.contract.damage import EVERYTHING, TABLES, Damage
    from handface.pipeline.contract.storage import absolute
    from handface.pipeline.export.release import release
    from handface.pipeline.export.select import WHY_DROPPED

    settings = ExportConfig.of(config)
    damage = Damage(EVERYTHING if config.checksums else TABLES)
    with byte_progress("exporting") as advance:
        made = release([absolute(uri) for uri in config.parts], absolute(config.output), settings, advance, damage)
    if config.coco:
        from handface.pipeline.export.metadata.coco import write_coco

        write_coco(absolute(config.output), config.coco)
    shards = [info for info in made.files.values() if info.samples]
    for split, count in made.samples.items():
        print(f"{split:<12} {count:>9,} samples")
    for reason, count in made.dropped.items():
        hint = " (--dedupe-distance -1 keeps copies)" if reason == "copy" else ""
        print(f"{'left out':<12} {count:>9,} {WHY_DROPPED.get(reason, reason)}{hint}")
    print(
        f"{counted(len(shards), 'shard')}, {sum(info.bytes for info in shards) / 1e6:,.1f} MB, revision {made.revision}: {config.output}"
    )
    return damage.report()


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("export"))
