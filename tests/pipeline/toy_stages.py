"""Small deterministic stages, and stages that misbehave, for the engine's tests: a real sample per kept input, no networks."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.sample import Crop, Labels, Sample, SampleMeta, Scores, Source, sample_key
from handface.pipeline.engine.executor import execute
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.run import prepare
from handface.pipeline.engine.stage import Resources, Stage
from handface.pipeline.engine.worker import UnitResult
from handface.pipeline.stages.recipe import AnnotateConfig


def items(count: int) -> Iterator[SourceItem]:
    """Inputs whose uri ends in their number; every seventh is a list row without an input."""
    for i in range(count):
        problem = Reason.MISSING_COLUMN if i % 7 == 6 else None
        columns = (("author", f"author {i}"), ("licence", "CC0"))
        yield SourceItem(f"toy://input/{i}", columns=columns, problem=problem, detail="no url" if problem else "")


@dataclass
class ToyFilter(Stage):
    """Rejects two of five inputs, for two reasons."""

    name: str = "filter"
    resources: Resources = Resources()

    def __call__(self, batch: Sequence[Record]) -> None:
        for record in batch:
            number = _number(record)
            record.original_size = (640, 480)
            record.sha256 = f"{number:064x}"
            if number % 5 == 3:
                record.reject(
                    Reason.NO_FACE, f"cannot identify {object()!r}"
                )  # an address that differs in each process
            elif number % 5 == 4:
                record.reject(Reason.NO_HAND)


@dataclass
class ToyPack(Stage):
    """Leaves a sample that depends on the input alone."""

    name: str = "pack"
    writes = ("sample",)
    resources: Resources = Resources()
    seconds: float = 0.0

    def __call__(self, batch: Sequence[Record]) -> None:
        for record in batch:
            time.sleep(self.seconds)
            record.sample = toy_sample(_number(record), record.item.uri)
            record.scores = record.sample.meta.scores


@dataclass
class Once(Stage):
    """Does something bad (kill, hang, raise) at one input, `times` times over all processes; marks each time in a folder.

    act="all" raises at every input instead.
    """

    folder: Path
    at: int
    act: str
    times: int = 1
    name: str = "trouble"
    resources: Resources = Resources()
    limit: float | None = 1.0

    def setup(self) -> None:
        """Nothing to load."""
        if self.act == "setup":
            raise FileNotFoundError("weights of toy are missing: run `handface models pull`")

    def __call__(self, batch: Sequence[Record]) -> None:
        if self.act == "all":
            if self.times:
                raise RuntimeError("toy trouble")
            return
        if not any(_number(record) == self.at for record in batch):
            return
        done = len(list(self.folder.glob("trouble-*")))
        if done >= self.times:
            return
        (self.folder / f"trouble-{done}").touch()
        if self.act == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.act == "hang":
            time.sleep(1000)
        raise RuntimeError(f"toy trouble at {self.at}")


def toy_sample(number: int, uri: str) -> Sample:
    """A valid sample made of its number."""
    image = b"\xff\xd8toy" + str(number).encode() * 200
    face = np.full((68, 3), number, np.float32)
    hand = np.full((1, 21, 3), number, np.float32)
    scores = Scores(0.9, 1.0, 0.2, 0.8, 0.7, None, 100.0 + number)
    crop = Crop(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 256, 640, 480)
    meta = SampleMeta(sample_key(image), Source(uri, f"{number:064x}", f"{number:016x}"), crop, scores, ())
    return Sample(image, Labels(face, hand, np.array([1], np.uint8)), meta)


def toy_stages(*extra: Stage, seconds: float = 0.0) -> list[Stage]:
    """Filter, the extra ones, pack."""
    return [ToyFilter(), *extra, ToyPack(seconds=seconds)]


def parts_of(folder: Path) -> dict[str, bytes]:
    """{file name: bytes} of the part files and of whatever else lies beside them, leftovers included."""
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and path.name != "run.json")
    return {path.name: path.read_bytes() for path in files}


CONFIG = AnnotateConfig(unit_size=10)


def _number(record: Record) -> int:
    return int(record.item.uri.rpartition("/")[2])


def toy_run(
    output: Path, *extra: Stage, count: int = 95, workers: int = 2, local: bool = False, seconds: float = 0.0
) -> list[UnitResult]:
    """Prepare and execute the toy pipeline; the results of the units that were left."""
    run = prepare(
        ["toy"],
        CONFIG,
        str(output),
        list_inputs=lambda: items(count),
        stages=lambda config, day: toy_stages(*extra, seconds=seconds),
    )
    return list(execute(run, workers=workers, local=local))


if __name__ == "__main__":  # a driver to be killed: OUTPUT local|ray SECONDS_PER_INPUT
    toy_run(Path(sys.argv[1]), local=sys.argv[2] == "local", seconds=float(sys.argv[3]))
