"""What a run says: `log.jsonl` and TensorBoard always, Weights & Biases if asked for, a progress bar on a terminal."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

log = logging.getLogger(__name__)
_SAY_EVERY = 15.0  # seconds, without a terminal


class RunLog:
    """Writes on rank 0, counts time on all. Use as a context manager.

    Times are of this start: how long steps took, and which share of it was waiting for data.
    """

    def __init__(self, folder: Path, steps: int, done: int, writes: bool, wandb: str | None = None) -> None:
        self.folder, self.steps, self.writes = folder, steps, writes
        self.waited = self.since = 0.0
        self.start = self.said = time.monotonic()
        self.first = self.marked = done
        self._board: Any = None
        self._wandb: Any = None
        if writes:
            from rich import progress
            from rich.console import Console
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done)
            self._file = _kept(folder / "log.jsonl", done).open("a")
            columns: list[progress.ProgressColumn | str] = ["training {task.completed:,}/{task.total:,}"]
            columns += [progress.BarColumn(), progress.TimeRemainingColumn(), "{task.fields[text]}"]
            self._bar = progress.Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
            self._task = self._bar.add_task("training", total=steps, completed=done, text="")
            if wandb is not None:
                import wandb as library

                self._wandb = library.init(project=wandb, dir=str(folder), resume="allow", id=folder.name)

    def __enter__(self) -> RunLog:
        if self.writes:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.writes:
            self._bar.stop()
            self._board.close()
            self._file.close()
            if self._wandb is not None:
                self._wandb.finish(exit_code=int(kind is not None))

    def waiting(self, batches: Iterator[Any]) -> Any:
        """The next batch, the time for it counted as waiting."""
        start = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - start
        return batch

    def scalars(self, step: int, values: Mapping[str, float], samples: int, world: int) -> None:
        """Log the values of a step, and rates since the last call. samples: per step and rank."""
        now = time.monotonic()
        seconds, count = now - (self.since or self.start), step - self.marked
        rates = {
            "time/steps_per_second": count / max(seconds, 1e-9),
            "time/samples_per_second": count * samples * world / max(seconds, 1e-9),
            "time/data_wait_share": self.waited / max(seconds, 1e-9),
        }
        self.since, self.marked, self.waited = now, step, 0.0
        if not self.writes:
            return
        self._write(step, dict(values) | (rates if count > 0 else {}))
        text = f"loss {values['loss']:.1f}, {rates['time/steps_per_second']:.2f} it/s, data wait {rates['time/data_wait_share']:.0%}"
        self._bar.update(self._task, completed=step, text=text)
        if self._bar.disable and now - self.said > _SAY_EVERY:
            self.said = now
            log.info("step %d/%d: %s", step, self.steps, text)

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Log validation metrics."""
        if self.writes:
            self._write(step, {f"validation/{name}": value for name, value in values.items()})

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Log a picture (H, W, 3) uint8."""
        if self.writes:
            self._board.add_image(name, torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), step)

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(
            json.dumps({"step": step} | {name: float(f"{value:.9g}") for name, value in values.items()}) + "\n"
        )
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name if "/" in name else f"loss/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)


def _kept(path: Path, done: int) -> Path:
    """The log without what a start that was killed wrote after its last checkpoint; those steps come again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
        path.write_text("".join(line for line in lines if json.loads(line)["step"] <= done))
    return path
