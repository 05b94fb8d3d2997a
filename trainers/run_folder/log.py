"""What a run writes down: `log.jsonl` always, TensorBoard where installed, Weights & Biases if asked for, a progress bar on a terminal."""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch

from handface.extras import extra
from handface.pipeline.contract.storage import Folder
from handface.trainers.run_folder.storage import PATIENCE_S, with_retries

log = logging.getLogger(__name__)
LOG = "log.jsonl"
_SAY_EVERY = 15.0  # seconds, without a terminal
_LAST_TRY_S = 10.0  # for the logs of a run that ends by an error, which may be the store's


class RunLog:
    """Writes on the main rank, counts time on all. Use as a context manager.

    Times are of this start: how long steps took, and which share of it was waiting for data. Where the run's folder is on an object
    store, files are written here first; `upload` copies them there.
    """

    def __init__(
        self, output: str, steps: int, done: int, rank: int = 0, wandb: str | None = None, samples: bool = False
    ) -> None:
        self.root, self.steps, self.writes = Folder(output), steps, rank == 0
        self.waited = self.since = 0.0
        self.start = self.said = time.monotonic()
        self.marked = self.first = done
        self._local = Path(self.root.path()) if self.root.local else Path(tempfile.mkdtemp(prefix="handface-log-"))
        self._text = ""
        self._board: Any = None
        self._wandb: Any = None
        self._samples = self._open(f"samples-{rank}.jsonl", done) if samples else None
        if self.writes:
            from rich import progress
            from rich.console import Console

            self._board = _open_board(self._local / "tensorboard", done)
            self._file = self._open(LOG, done)
            columns: list[Any] = ["[progress.description]{task.description}", progress.MofNCompleteColumn()]
            columns += [progress.BarColumn(), progress.TimeRemainingColumn(), "{task.fields[text]}"]
            self._bar = progress.Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
            self._task = self._bar.add_task("training", total=steps, completed=done, text="")
            if wandb is not None:
                with extra("wandb", "--wandb"):
                    import wandb as library

                name = output.rstrip("/").rpartition("/")[2]
                self._wandb = library.init(project=wandb, dir=str(self._local), resume="allow", id=name)

    def __enter__(self) -> RunLog:
        if self.writes:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._samples is not None:
            self._samples.close()
        if self.writes:
            self._bar.stop()
            if self._board is not None:
                self._board.close()
            self._file.close()
            if self._wandb is not None:
                self._wandb.finish(exit_code=int(kind is not None))
        if self.root.local:
            return
        try:
            self.upload(PATIENCE_S if kind is None else _LAST_TRY_S)
        except Exception as uploading:
            if kind is None:
                raise
            # the error that ended the run is the one to tell
            log.warning("%s: its logs could not be written (%s); they are in %s", self.root.uri, uploading, self._local)
            return
        if self._wandb is None:  # which may keep its own files there
            shutil.rmtree(self._local, ignore_errors=True)

    def waiting(self, batches: Iterator[Any]) -> Any:
        """The next batch, the time for it counted as waiting."""
        start = time.monotonic()
        batch = next(batches)
        self.waited += time.monotonic() - start
        return batch

    def tick(self, step: int) -> None:
        """Show that a step is done; without a terminal, the first one and then one every quarter of a minute."""
        if not self.writes:
            return
        self._bar.update(self._task, completed=step)
        now = time.monotonic()
        if self._bar.disable and (step == self.first + 1 or now - self.said > _SAY_EVERY):
            self.said = now
            pace = (now - self.start) / (step - self.first)
            left = timedelta(seconds=round(pace * (self.steps - step)))
            log.info("step %d/%d: %s, %s left", step, self.steps, self._text or f"{pace:.1f} s a step", left)

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
        speed, wait = rates["time/steps_per_second"], rates["time/data_wait_share"]
        self._text = f"loss {values['loss']:.1f}, {speed:.2f} it/s, data wait {wait:.0%}"
        self._bar.update(self._task, completed=step, text=self._text)

    def samples(self, step: int, keys: Sequence[str]) -> None:
        """Log the keys of this rank's samples in a step, if asked for."""
        if self._samples is not None:
            self._samples.write(json.dumps({"step": step, "keys": list(keys)}) + "\n")
            self._samples.flush()

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Log validation metrics."""
        if self.writes:
            self._write(step, {f"validation/{name}": value for name, value in values.items()})

    def picture(self, step: int, name: str, image: np.ndarray) -> None:
        """Log a picture (H, W, 3) uint8."""
        if self._board is not None:
            self._board.add_image(name, torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), step)

    def rewind(self, done: int) -> None:
        """Forget the steps after `done`: they come again."""
        if self.writes:
            self._file.close()
            self._file = self._open(LOG, done)
        self.marked = min(self.marked, done)

    def upload(self, patience_s: float = PATIENCE_S) -> None:
        """Copy what was written to the run's folder, where that is an object store; elsewhere it is there already."""
        if self.root.local:
            return
        for file in sorted(path for path in self._local.rglob("*") if path.is_file() and "wandb" not in path.parts):
            name = file.relative_to(self._local).as_posix()
            with_retries(f"{self.root.uri}/{name}", self.root.write, name, file.read_bytes(), patience_s=patience_s)

    def _open(self, name: str, done: int) -> Any:
        """A file of JSON lines to append to, without the steps that an earlier start wrote after its last checkpoint."""
        path = self._local / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self.root.local and not path.exists() and self.root.exists(name):
            path.write_bytes(with_retries(f"{self.root.uri}/{name}", self.root.read, name))
        if path.exists():
            lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            readable = [(line, step) for line in lines if (step := _step_of(line)) is not None]
            if len(readable) < len(lines):
                log.warning("%s: %d lines are no JSON of a step and are left out", name, len(lines) - len(readable))
            path.write_text("".join(line for line, step in readable if step <= done))
        return path.open("a")

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(
            json.dumps({"step": step} | {name: float(f"{value:.9g}") for name, value in values.items()}) + "\n"
        )
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name if "/" in name else f"loss/{name}", value, step)
        if self._wandb is not None:
            self._wandb.log(dict(values), step=step)


def _step_of(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None


def _open_board(folder: Path, done: int) -> Any:
    """A TensorBoard writer that forgets the steps after `done`; None where TensorBoard is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.info("no TensorBoard here, log.jsonl has all values: pip install 'handface[tensorboard]' for its pages")
        return None
    return SummaryWriter(str(folder), purge_step=done)
