"""How fast Decaf frames become samples, where the time goes, and whether memory stays flat over a long video.

python -m benchmarks.pipeline.decaf --frames 400 --save
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.results import Figure, report, tabulate

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

_BATCH = 16


@dataclass(frozen=True)
class Config:
    """What to measure."""

    decaf: Path | None = None
    """A dataset in Decaf's layout; without it a synthetic one is filmed first."""
    frames: int = 400
    """Frames to convert; the same number is filmed if there is no dataset."""
    width: int = 1920
    height: int = 1080
    """Of the synthetic videos; Decaf's own size."""
    hand_model: str | None = "free-hand"
    head_model: str | None = "free-head"
    save: bool = False
    """Write the figures to docs/results/decaf.csv and its page."""


class Clock:
    """CPU seconds by name, of functions that are watched."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def watch(self, owner: Any, function: str, name: str) -> None:
        """Count what owner.function takes under a name."""
        original: Callable[..., Any] = getattr(owner, function)

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds[name] += time.process_time() - start

        setattr(owner, function, timed)


def main(config: Config) -> None:
    """Convert in one process, watching."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = config.decaf or film(config, Path(folder) / "decaf")
        figures = figures_of(*measure(config, root))
    report("decaf", figures, config.save)


def film(config: Config, root: Path) -> Path:
    """A synthetic dataset of one subject and one camera."""
    from handface.pipeline.synthesis.studio.capture import write_shared, write_subject
    from handface.pipeline.synthesis.studio.dataset import CaptureConfig, StudioConfig

    capture = CaptureConfig(subjects=1, cameras=1, width=config.width, height=config.height)
    dataset = StudioConfig(frames=config.frames, capture=capture)
    write_shared(root, dataset)
    write_subject(root, dataset, 1)
    return root


def measure(config: Config, root: Path) -> tuple[int, float, dict[str, float], list[tuple[int, float]]]:
    """(frames, CPU seconds, CPU seconds by what, [(frames done, MB resident)])."""
    import simplejpeg

    from handface.pipeline.contract.sample import encode
    from handface.pipeline.decaf import convert, labels
    from handface.pipeline.decaf.config import DecafConfig
    from handface.pipeline.decaf.video import FrameReader
    from handface.pipeline.engine.record import Record

    clock = Clock()
    clock.watch(FrameReader, "at", "decode video and mask")
    clock.watch(labels, "cut_out", "crop and resize")
    clock.watch(simplejpeg, "encode_jpeg", "encode JPEG")
    clock.watch(convert, "_png", "encode mask")
    clock.watch(labels, "frame_labels", "pose bodies, labels")
    settings = DecafConfig(decaf=str(root), split="train", hand_model=config.hand_model, head_model=config.head_model)
    stage = convert.ConvertStage(settings)
    stage.setup()
    items = []
    for item in convert.list_frames(settings):
        items.append(item)
        if len(items) == config.frames:
            break
    stage([Record(items[0])])  # opens the video, finds the order of the hand's keys
    clock.seconds.clear()
    stage.start_unit()
    marks, memory = {len(items) * part // 8 for part in range(1, 9)}, []
    start = time.process_time()
    for first in range(1, len(items), _BATCH):
        records = [Record(item) for item in items[first : first + _BATCH]]
        stage(records)
        begin = time.process_time()
        for record in records:
            if record.sample is not None:
                encode(record.sample)
        clock.seconds["pack labels"] += time.process_time() - begin
        done = first + len(records)
        if any(done - len(records) < mark <= done for mark in marks):
            memory.append((done, resident()))
    return len(items) - 1, time.process_time() - start, dict(clock.seconds), memory


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def figures_of(frames: int, cpu: float, parts: dict[str, float], memory: list[tuple[int, float]]) -> list[Figure]:
    """The figures of what `measure` returns."""
    print(
        f"{frames / cpu:.1f} frames per second and core ({frames} frames, {cpu:.1f} s of CPU), load {os.getloadavg()[0]:.1f} at the end"
    )
    spent = dict(sorted(parts.items(), key=lambda part: -part[1])) | {"everything else": cpu - sum(parts.values())}
    return [
        *tabulate("what", {name: {"ms per frame": f"{1e3 * seconds / frames:.1f}"} for name, seconds in spent.items()}),
        *tabulate("frames done", {str(done): {"MB resident": f"{megabytes:.0f}"} for done, megabytes in memory}),
    ]


if __name__ == "__main__":
    main(tyro.cli(Config))
