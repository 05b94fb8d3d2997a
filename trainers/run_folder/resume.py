"""What may change between two starts of one run, and what to do about the rest. Nothing is ever removed here."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

from handface.pipeline.contract.storage import Folder
from handface.trainers.config import TrainConfig
from handface.trainers.run_folder.checkpoint import CheckpointError, list_checkpoints

log = logging.getLogger(__name__)
CONFIG = "config.json"

# how a run is written down and fed, not what it learns
_FREE = {
    "output",
    "wandb",
    "log_every",
    "log_samples",
    "validate_every",
    "checkpoint_every",
    "keep",
    "resume",
    "rollbacks",
    "compile",
    "init",
    "data.batch_size",
    "data.workers",
    "data.prefetch",
    "data.index_folder",
    "data.bad_share",
    "data.patience",
}
# files may lie elsewhere than before: the loader compares the samples themselves, the trainer the bodies
_FREE_PATTERN = re.compile(
    r"data\.datasets(\[\d+\]\.(shards|exclude|found)(\[\d+\])?)?$|data\.(hand|head)_body$|data\.augment\.backgrounds$"
)
# change what is learned from here on, in a way that whoever changes them wants
_TAKEN_UP = re.compile(
    r"steps$|validation|validate_samples$|priors|optim\.(ema|freeze_backbone|accumulate)$|precision$|loss\.starts\."
)


def check_resume(config: TrainConfig, saved: str, checkpoint: str) -> list[str]:
    """Settings that differ from a checkpoint's and are taken up from here on, as `name was A, is B`.

    Args:
        config: Of this start.
        saved: The configuration in the checkpoint, JSON, perhaps of another version.
        checkpoint: Its name, for messages.

    Raises:
        CheckpointError: A setting differs that makes it another run; the message says how to go on without losing anything.
    """
    before, now = (_flat(json.loads(text)) for text in (saved, config.dumps()))
    changed = {
        name: (before.get(name), now.get(name))
        for name in sorted(before | now)
        if before.get(name) != now.get(name) and name in now and name not in _FREE and not _FREE_PATTERN.match(name)
    }
    old_sets, new_sets = _set_names(saved), _set_names(config.dumps())
    if old_sets != new_sets:
        # said once, and not for each setting of a set that came or went
        changed = {name: both for name, both in changed.items() if not name.startswith("data.datasets[")}
        changed["the list of data sets"] = (old_sets, new_sets)
    shown = {name: f"{name} was {old!r}, is {new!r}" for name, (old, new) in changed.items()}
    if refused := [text for name, text in shown.items() if not _TAKEN_UP.match(name)]:
        raise CheckpointError(
            f"{checkpoint} is of another run: {'; '.join(refused)}. Set that back to go on, or start a new run from its weights:"
            f" --output ANOTHER --init {config.output.rstrip('/')}/last"
        )
    return list(shown.values())


def _set_names(text: str) -> str:
    return ", ".join(one["name"] for one in json.loads(text)["data"]["datasets"])


def check_run(config: TrainConfig) -> None:
    """Look, before anything is loaded, whether the run that the folder holds, if any, is this one. Raises as `check_resume`."""
    folder = Folder(config.output)
    if list_checkpoints(config.output) and folder.exists(CONFIG):
        check_resume(config, folder.read(CONFIG).decode(), f"{config.output.rstrip('/')}")


def require_fresh(config: TrainConfig, names: list[str]) -> None:
    """Raise CheckpointError if a run may only begin and its folder holds one already."""
    if names and config.resume == "never":
        raise CheckpointError(
            f"{config.output}: holds a run already ({names[-1]}) and resume is 'never'; choose another folder"
        )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{`data.datasets[0].weight`: value}; an empty list is one of its own."""
    if isinstance(tree, dict):
        pairs = [(f"{prefix}.{name}" if prefix else name, branch) for name, branch in tree.items()]
    elif isinstance(tree, list) and tree:
        pairs = [(f"{prefix}[{number}]", branch) for number, branch in enumerate(tree)]
    else:
        return {prefix: tree}
    return {name: value for where, branch in pairs for name, value in _flat(branch, where).items()}
