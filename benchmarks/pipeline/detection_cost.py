"""CPU time and memory of `annotate --local` with this build and with another one, side by side on the same pictures.

    python -m benchmarks.pipeline.detection_cost --photos DIR --before TREE --save

DIR holds photos. TREE is a checkout of another commit (`git worktree add TREE COMMIT`). Two inputs: the photos, and a mix as
the web has it, one photo for nine pictures without a face. The builds take turns; the least of the rounds counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from benchmarks.results import Figure, report


@dataclass(frozen=True)
class Config:
    photos: Path
    before: Path
    rounds: int = 2
    mix: int = 300
    """Pictures of the mix."""
    save: bool = False
    """Write the figures to docs/results/detection.csv and its page."""


@dataclass(frozen=True)
class Cost:
    cpu: float
    memory: int  # bytes, proportional share of all processes of the run, the most at once


def main(config: Config) -> None:
    figures = []
    with tempfile.TemporaryDirectory(prefix="handface-cost-") as temp:
        mix = make_mix(config.photos, Path(temp) / "mix", config.mix)
        few = Path(temp) / "few"
        few.mkdir()
        cv2.imwrite(str(few / "grey.png"), np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8))
        for name, folder in (("photos", config.photos), ("web mix", mix)):
            count = sum(path.suffix in (".jpg", ".png") for path in folder.iterdir())
            figures += compare(name, count, measure(config, few, folder, Path(temp)))
    report("detection", figures, config.save)


def measure(config: Config, few: Path, folder: Path, temp: Path) -> dict[str, Cost]:
    """The least cost of each build over the rounds, without its start-up."""
    found: dict[str, list[Cost]] = {"before": [], "this build": []}
    for _ in range(config.rounds):
        for build, tree in (("before", config.before), ("this build", Path.cwd())):
            start, cost = annotate(tree, few, temp), annotate(tree, folder, temp)
            found[build].append(Cost(cost.cpu - start.cpu, cost.memory))
            print(folder.name, build, start, cost, flush=True)
    return {b: Cost(min(c.cpu for c in costs), min(c.memory for c in costs)) for b, costs in found.items()}


def compare(name: str, count: int, costs: dict[str, Cost]) -> list[Figure]:
    """Columns of one line of the table."""
    before, after = costs["before"], costs["this build"]
    row = f"cost | {name}, {count} pictures"
    return [
        Figure(f"{row} | before, CPU", f"{before.cpu / count * 1e3:.0f}", "ms/picture"),
        Figure(f"{row} | this build, CPU", f"{after.cpu / count * 1e3:.0f}", "ms/picture"),
        Figure(f"{row} | pictures per CPU second", f"{before.cpu / after.cpu:.1f}", "x"),
        Figure(f"{row} | before, memory", f"{before.memory / 2**20:.0f}", "MB"),
        Figure(f"{row} | this build, memory", f"{after.memory / 2**20:.0f}", "MB"),
    ]


def annotate(tree: Path, folder: Path, temp: Path) -> Cost:
    """One run of the command of a build, start-up included."""
    output = Path(tempfile.mkdtemp(dir=temp))
    command = [
        sys.executable,
        "-m",
        "jobs.annotate",
        "--input",
        str(folder),
        "--output",
        str(output / "parts"),
        "--local",
    ]
    command += ["--dedupe.max-distance", "-1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (output / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=tree, env=environment, stdout=log, stderr=log)
        sampler = Sampler(process.pid)
        sampler.start()
        _, status, usage = os.wait4(process.pid, 0)
        sampler.ended.set()
        sampler.join()
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{tree}: {(output / 'log').read_text()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, sampler.most)


class Sampler(threading.Thread):
    """The most memory that a process and its descendants held at once."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.root, self.most, self.ended = root, 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.3):
            self.most = max(self.most, tree_memory(self.root))


def tree_memory(root: int) -> int:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    total = 0
    for pid in parents:
        ancestor = pid
        while ancestor in parents and ancestor != root:
            ancestor = parents[ancestor]
        if ancestor == root:
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            except OSError:
                continue
            total += 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def make_mix(photos: Path, folder: Path, count: int) -> Path:
    """One photo in ten; the rest crops of pictures that installed packages carry, and rendered backgrounds; no faces."""
    import skimage.data

    from handface.pipeline.synthesis.scene.background import draw_background
    from handface.pipeline.synthesis.scene.domain import DOMAINS

    folder.mkdir()
    rng = np.random.default_rng(0)
    files = sorted(path for path in photos.iterdir() if path.suffix in (".jpg", ".png"))
    names = ("coffee", "rocket", "immunohistochemistry", "hubble_deep_field", "retina", "chelsea")
    plain = [np.ascontiguousarray(getattr(skimage.data, name)()[..., :3]) for name in names]
    for i in range(count):
        target = folder / f"{i:05d}.jpg"
        if i % 10 == 0:
            target.write_bytes(files[i // 10 * len(files) // (count // 10 + 1)].read_bytes())
            continue
        if i % 3 == 0:
            background = draw_background(rng, 512, DOMAINS["open"], None)
            picture = (np.clip(background, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
        else:
            base = plain[i % len(plain)]
            height, width = (int(v * rng.uniform(0.5, 1)) for v in base.shape[:2])
            y, x = rng.integers(0, base.shape[0] - height + 1), rng.integers(0, base.shape[1] - width + 1)
            picture = base[y : y + height, x : x + width]
        scale = rng.uniform(480, 1280) / max(picture.shape[:2])
        sized = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        noisy = np.clip(sized[..., ::-1] + rng.normal(0, 4, sized.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(target), noisy, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return folder


if __name__ == "__main__":
    main(tyro.cli(Config))
