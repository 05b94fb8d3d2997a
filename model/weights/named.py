"""A network by name, folder or file, and whether it was ever trained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from handface.model.network.config import PRESETS
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.model.weights.checkpoint import CONFIG, TENSORS, is_trained, load_dice, read_config
from handface.model.weights.unpickle import WeightsError
from handface.suggest import suggest

EMBEDDED = Path(__file__).parents[1] / "data"  # a checkpoint folder per preset that ships one
_NOTE = "training.json"
_SEED = 0
# from random weights: no recipe shows a face before its first hundreds
_FEW_STEPS = 100


@dataclass(frozen=True)
class NamedNetwork:
    """A network in eval mode.

    trained: False if its weights are fresh random numbers, or were for all but a few steps.  note: how far it was trained, "" if nobody
    wrote it.
    """

    network: Dice
    trained: bool
    source: str
    note: str = ""


def load_network(name: str | Path, hand: str | None = None, head: str | None = None) -> NamedNetwork:
    """`dice-s` or another preset, a checkpoint folder, or the model.safetensors in one.

    A preset without an embedded checkpoint gets fresh weights, always the same. hand, head: body files; the checkpoint's own if None.
    Raises WeightsError naming missing, extra and mismatched keys; TopologyError or BodyFileError for the wrong bodies.
    """
    folder = find_checkpoint(name)
    if folder is None:
        return _fresh(str(name), hand, head)
    sizes = read_config(folder).sizes
    topology = None
    if hand is not None or head is not None:
        topology = Topology.from_bodies(hand or sizes.hand.body, head or sizes.head.body)
    network = load_dice(folder, topology)
    note, enough = _note(folder)
    return NamedNetwork(network, is_trained(folder) and enough, str(folder), note)


def find_checkpoint(name: str | Path) -> Path | None:
    """The checkpoint folder that a preset's name, a folder or the model.safetensors in one stands for.

    None for a preset that comes without weights. Raises WeightsError where there is nothing of that name.
    """
    folder = Path(name)
    if folder.name == TENSORS:
        folder = folder.parent
    if str(name) in PRESETS and not folder.is_dir():
        folder = EMBEDDED / str(name)
        return folder if (folder / CONFIG).is_file() else None
    if not folder.is_dir():
        kind = "no checkpoint folder" if folder.exists() else "no such preset, folder or file"
        raise WeightsError(
            f"{name}: {kind}; give a folder with {CONFIG} and {TENSORS} (`handface weights import` makes one of a released model.bin),"
            f" or a preset: {suggest(str(name), PRESETS)}"
        )
    return folder


def require_checkpoint(name: str | Path) -> Path:
    """`find_checkpoint`, with an error for a preset that comes without weights."""
    folder = find_checkpoint(name)
    if folder is None:
        raise WeightsError(f"{name} comes without trained weights; give a folder with {CONFIG} and {TENSORS}")
    return folder


def _fresh(name: str, hand: str | None, head: str | None) -> NamedNetwork:
    topology = Topology.from_bodies(hand or "free-hand", head or "free-head")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = Dice.from_preset(name, topology)
    return NamedNetwork(network.eval(), False, name)


def _note(folder: Path) -> tuple[str, bool]:
    """What the trainer left beside the weights, in words, and whether its steps are enough to mean something."""
    try:
        told = json.loads((folder / _NOTE).read_bytes())
        steps = f"trained for {told['steps']:,} steps"
        if told.get("from_random") and told["steps"] < _FEW_STEPS:
            return f"{steps} from random weights: as good as untrained", False
        if told["error"] is None:
            return f"{steps} without validation: nobody knows how good it is", True
        return f"{steps}, validation {told['metric']} {told['error']:.1f}", True
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", True
