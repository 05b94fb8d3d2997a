"""The cost sheet of finished runs: seconds by stage and bytes, per 1,000 inputs and per 1,000 kept images, and for a whole list.

    python -m benchmarks.trainers.sheet out/parts --urls 100000000

Reads the stage timings that every run leaves in `stats/` beside its parts. A stage's seconds are those of one worker with one
thread, waiting included: what a fetch waits for sites costs no CPU (see `benchmarks/pipeline/crawl.py` for the CPU of a crawl).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Config:
    """What to read."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of parts, each of a finished `crawl` round, `annotate` or `synthesize`."""
    urls: int = 100_000_000
    """Size of the list to budget."""


@dataclass(frozen=True)
class Sheet:
    """One run. seconds: {stage: worker seconds}, of the units whose timings were kept; `timed` are their inputs."""

    inputs: int
    kept: int
    bytes: int
    timed: int
    seconds: dict[str, float]

    def per_input(self, stage: str) -> float:
        """Worker seconds that an input costs in a stage."""
        return self.seconds[stage] / max(self.timed, 1)


def main(config: Config) -> int:
    """Print a table per run. Returns 0; 1 for a folder without finished parts or without timings."""
    for run in config.runs:
        sheet = read(run)
        if not sheet.inputs or not sheet.timed:
            print(f"{run}: no finished parts with timings in {run / 'stats'}", file=sys.stderr)
            return 1
        print("\n".join(table(run, sheet, config.urls)))
    return 0


def read(run: Path) -> Sheet:
    """Add up a run's parts and timings."""
    from handface.pipeline.contract.parts import read_parts

    manifests = [part.manifest for part in read_parts(str(run))]
    seconds: Counter[str] = Counter()
    timed = 0
    for file in sorted((run / "stats").glob("*.jsonl")):
        for line in file.read_text().splitlines():
            unit = json.loads(line)
            if unit.get("seconds"):
                timed += unit["inputs"]
                seconds.update(unit["seconds"])
    size = sum(info.bytes for manifest in manifests for info in manifest.files.values())
    inputs, kept = sum(manifest.inputs for manifest in manifests), sum(manifest.kept for manifest in manifests)
    return Sheet(inputs, kept, size, timed, dict(seconds))


def table(run: Path, sheet: Sheet, urls: int) -> list[str]:
    """Markdown lines."""
    share = sheet.kept / sheet.inputs
    each = sheet.bytes / max(sheet.kept, 1)
    lines = [
        f"{run.name}: {sheet.inputs} inputs, {sheet.kept} kept ({share:.1%}), {each / 1000:.0f} kB in parts per kept image",
        "",
        f"| stage | worker s per 1,000 inputs | per 1,000 kept | worker hours for {urls / 1e6:g} M inputs |",
        "|---|---|---|---|",
    ]
    costs = {stage: sheet.per_input(stage) for stage in sheet.seconds}
    for stage, cost in [*costs.items(), ("all", sum(costs.values()))]:
        kept = f"{1000 * cost / share:.2f}" if share else ""
        lines.append(f"| {stage} | {1000 * cost:.2f} | {kept} | {cost * urls / 3600:,.0f} |")
    return [*lines, "", f"Storage for the whole list: {each * share * urls / 1e12:.3g} TB", ""]


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config)))
