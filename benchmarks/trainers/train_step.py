"""CPU time of one training step with all losses, beside another checkout's on the same samples in the same run.

    git worktree add ../before 27dc664
    python -m benchmarks.trainers.train_step --shards out/scenes --before ../before --save

Each case is a process of its own with one thread; checkouts take turns. `warm` starts from the weights that ship with the preset, `fresh`
from random ones, where the time of the first steps depends on how the heads start.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.results import Figure, report

ROOT = Path(__file__).parents[2]
STARTS: tuple[Literal["warm", "fresh"], ...] = ("warm", "fresh")

# Runs in either checkout: since its import names moved below `handface`, both are tried.
WORKER = """
import importlib.util, json, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
prefix, shards, preset, start, batch, steps, skip, index = json.loads(sys.argv[1])
get = lambda name: importlib.import_module(prefix + name)
config, data, losses = get("trainers.config"), get("trainers.data"), get("trainers.losses")
ranks = get("trainers.distributed.ranks" if prefix else "trainers.distributed")
mix = data.DataConfig((data.DatasetConfig("labelled", tuple(shards)), data.DatasetConfig("wild", tuple(shards), weak=True)),
                      batch_size=batch, image_size=128 if preset == "dice-nano" else 224, workers=0, index_folder=index)
init = f"model/data/{preset}" if start == "warm" else None
weights = losses.LossWeights(**{name: 1.0 for name in ("touch", "collision", "depth")})
run = config.TrainConfig(data=mix, preset=preset, init=init, steps=1000, loss=losses.LossConfig(weights=weights))
if importlib.util.find_spec(prefix + "trainers.memory"):
    get("trainers.memory").keep_freed_memory()
build = get("trainers.build" if importlib.util.find_spec(prefix + "trainers.build") else "trainers.train")
trainer = get("trainers.step").TrainStep(build.build_network(run), run, ranks.Ranks(0, 1, torch.device("cpu")))
batches, times = iter(data.make_loader(mix, pin_memory=False)), []
for step in range(steps + skip):
    began = time.process_time()
    result = trainer(step, [next(batches)])
    assert bool(result.finite)
    times.append(1e3 * (time.process_time() - began))
print(json.dumps(times[skip:]))
"""


@dataclass(frozen=True)
class Config:
    shards: tuple[str, ...]
    """Folders of parts with 3D labels and depth; half of each batch is taken as if it had no 3D labels."""
    before: Path | None = None
    """Another checkout of this repository to compare with."""
    preset: str = "dice-nano"
    batch: int = 16
    """Samples per step."""
    steps: int = 12
    """Steps that are counted, of a warm start; a fresh start counts its first ones."""
    fresh_steps: int = 8
    """Steps that are counted, of a fresh start; 0 leaves it out."""
    rounds: int = 3
    """Turns."""
    save: bool = False
    """Write the figures to docs/results/train_step.csv and its page."""


def measure(config: Config, checkout: Path, start: Literal["warm", "fresh"]) -> float:
    """Mean CPU milliseconds of a step in a checkout."""
    prefix = "handface." if (checkout / "trainers" / "distributed" / "ranks.py").is_file() else ""
    shards = [str(Path(path).resolve()) for path in config.shards]
    steps, skip = (config.steps, 2) if start == "warm" else (config.fresh_steps, 0)
    settings = [prefix, shards, config.preset, start, config.batch, steps, skip, f"/tmp/handface-index-{os.getuid()}"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", WORKER, json.dumps(settings)],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    return statistics.fmean(json.loads(done.stdout.splitlines()[-1]))


def figures_of(start: str, found: dict[str, list[float]]) -> list[Figure]:
    """Medians and ranges over the turns, and of their ratios, as a row of the table."""
    row = [Figure(f"step | {start} | {name}", *_spread(times, 0, "ms")) for name, times in found.items()]
    if "before" in found:
        ratios = [before / now for before, now in zip(found["before"], found["now"], strict=True)]
        row.append(Figure(f"step | {start} | before / now", *_spread(ratios, 2, "")))
    return row


def _spread(values: list[float], digits: int, unit: str) -> tuple[str, str]:
    least, middle, most = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return (middle, unit) if len(values) == 1 else (f"{middle} ({least} to {most})", unit)


def main(config: Config) -> None:
    """Measure, print, and write the figures if asked to."""
    checkouts = ({"before": config.before.resolve()} if config.before else {}) | {"now": ROOT}
    figures: list[Figure] = []
    for start in STARTS if config.fresh_steps else STARTS[:1]:
        found: dict[str, list[float]] = {name: [] for name in checkouts}
        for turn in range(config.rounds):
            for name, checkout in checkouts.items():
                found[name].append(measure(config, checkout, start))
            print(start, turn, {name: round(times[-1], 1) for name, times in found.items()}, flush=True)
        label = "warm" if start == "warm" else f"fresh, first {config.fresh_steps} steps"
        figures += figures_of(label, found)
    report("train_step", figures, config.save)


if __name__ == "__main__":
    main(tyro.cli(Config))
