"""Checkpoints: everything a run needs to go on exactly, in one file that loads with `weights_only`, there whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import torch

from handface.pipeline.contract.storage import Folder, StorageError
from handface.trainers.run_folder.storage import with_retries
from handface.trainers.step import TrainStep

log = logging.getLogger(__name__)
FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{9})\.pt$")
_BROKEN = ".broken"
_EXPORTING = ".export-"


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message names it and says what to do."""


@dataclass
class RunProgress:
    """How far a run is. step: steps done.  skip: steps whose batch is passed over.  best: lowest validation error so far."""

    step: int = 0
    skip: list[int] = field(default_factory=list)
    best: float = float("inf")
    rollbacks: int = 0

    def state_dict(self) -> dict[str, Any]:
        """As plain values."""
        return vars(self) | {"skip": list(self.skip)}


def save(output: str, state: Mapping[str, Any], step: int, keep: int) -> str:
    """Write `checkpoints/step-<n>.pt` and remove all but the newest `keep`. Returns its name. The main rank calls it.

    Raises:
        StorageError: There is no room for it; nothing of it is left.
    """
    folder, name = _folder(output), f"step-{step:09d}.pt"
    _require_space(folder, state)

    def write() -> None:
        with folder.writer(name) as stream:
            _dump(state, stream)

    with_retries(f"{folder.uri}/{name}", write)
    for old in list_checkpoints(output)[:-keep]:
        folder.remove(old)
    return name


def clean(output: str) -> None:
    """Remove what a killed start left of unfinished checkpoints and weights."""
    _folder(output).clean("step-")
    root = Folder(output)
    for leftover in Path(root.path()).glob(f"{_EXPORTING}*") if root.local else ():
        shutil.rmtree(leftover, ignore_errors=True)


def list_checkpoints(output: str) -> list[str]:
    """Names of a run's checkpoints, oldest first; [] for a folder that holds none."""
    folder = _folder(output)
    sizes = with_retries(folder.uri, folder.sizes, "step-", ".pt")
    return sorted(name for name in sizes if _NAME.search(name))


def load_newest(output: str) -> tuple[str, dict[str, Any]] | None:
    """Name and state of the newest checkpoint that can be read, or None if there is none at all.

    One that is damaged is set aside as `<name>.broken`, loudly, and the one before is taken.
    Raises CheckpointError if all are damaged.
    """
    names = list_checkpoints(output)
    broken = []
    for name in reversed(names):
        try:
            return name, load(output, name)
        except CheckpointError as error:
            log.error("%s; going back to the checkpoint before it", error)
            broken.append(name)
            set_aside(output, name)
    if broken:
        raise CheckpointError(
            f"{output}/{FOLDER}: none of {', '.join(broken)} can be read; they are kept as *{_BROKEN}."
            " Choose another output folder; --init with the weights in `best` or `last` goes on from those"
        )
    return None


def load(output: str, name: str) -> dict[str, Any]:
    """The state in a checkpoint. Raises CheckpointError naming the file if it is damaged, OSError if it cannot be read now."""
    folder = _folder(output)
    where = f"{folder.uri}/{name}"
    source = folder.path(name) if folder.local else io.BytesIO(with_retries(where, folder.read, name))
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except OSError:  # a disk that does not answer says nothing about the file
        raise
    except Exception as error:  # torch raises many kinds for damaged files
        raise CheckpointError(f"{where}: damaged ({type(error).__name__}: {error})") from error
    if missing := {"progress", "data", "config", "network", "optimizer"} - set(state):
        raise CheckpointError(f"{where}: lacks {', '.join(sorted(missing))}")
    return dict(state)


def set_aside(output: str, name: str) -> None:
    """Rename a checkpoint, so that neither resuming nor tidying counts it; nothing is removed."""
    folder = _folder(output)
    folder.filesystem.mv(folder.path(name), folder.path(name + _BROKEN))


def export(output: str, name: str, step: TrainStep, note: Mapping[str, Any]) -> str:
    """Write the weights (the average's, if there is one) as a folder that `handface predict --model` reads: best/ or last/."""
    from handface.model.weights.checkpoint import CONFIG, TENSORS, save_tensors

    tensors = step.ema.state if step.ema is not None else step.network.state_dict()
    root = Folder(output)
    beside = root.path() if root.local else None
    with tempfile.TemporaryDirectory(prefix=_EXPORTING, dir=beside) as temporary:
        fresh = Path(temporary) / name
        save_tensors(tensors, step.network.config, fresh, trained=True)
        (fresh / "training.json").write_text(json.dumps(note, indent=1) + "\n")
        if root.local:
            target = Path(root.path(name))
            # moved aside first: the folder is away for a moment, and not while files are removed one by one
            if target.exists():
                target.replace(Path(temporary) / "before")
            fresh.replace(target)
        else:
            for file in (TENSORS, "training.json", CONFIG):
                with_retries(f"{output}/{name}/{file}", root.write, f"{name}/{file}", (fresh / file).read_bytes())
    return f"{output.rstrip('/')}/{name}"


def _folder(output: str) -> Folder:
    return Folder(f"{output.rstrip('/')}/{FOLDER}")


def _dump(state: Mapping[str, Any], stream: IO[bytes]) -> None:
    """`torch.save`, with the stream's own error where torch hides it behind one of its file format."""
    seen: list[OSError] = []

    class Watched(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            try:
                return stream.write(data)
            except OSError as error:
                seen.append(error)
                raise

    try:
        torch.save(dict(state), cast(IO[bytes], Watched()))
    except RuntimeError as error:
        if seen:
            raise seen[0] from error
        raise


def _require_space(folder: Folder, state: Mapping[str, Any]) -> None:
    if not folder.local:
        return
    path = Path(folder.path())
    path.mkdir(parents=True, exist_ok=True)
    needed, free = _size(state), shutil.disk_usage(path).free
    if free < needed:
        raise StorageError(
            errno.ENOSPC,
            f"{folder.uri}: a checkpoint needs {needed / 1e6:.0f} MB and {free / 1e6:.0f} MB are free; free some space and run"
            " the same command again, it goes on from the last checkpoint",
        )


def _size(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(_size(inner) for inner in value.values())
    return sum(_size(inner) for inner in value) if isinstance(value, list | tuple) else 64
