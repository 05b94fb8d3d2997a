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

EMBEDDED = Path(__file__).parents[1] / "data"  # a checkpoint folder per preset that ships one
_NOTE = "training.json"
_SEED = 0


@dataclass(frozen=True)
class NamedNetwork:
    """A network in eval mode. trained: False if its weights are fresh random numbers.  note: how far it was trained, "" if nobody wrote it."""

    network: Dice
    trained: bool
    source: str
    note: str = ""


def load_network(name: str | Path, hand: str | None = None, head: str | None = None) -> NamedNetwork:
    """`dice-s` or another preset, a checkpoint folder, or the model.safetensors in one.

    A preset without an embedded checkpoint gets fresh weights, always the same. hand, head: body files; the checkpoint's own if None.
    Raises WeightsError naming missing, extra and mismatched keys; TopologyError or BodyFileError for the wrong bodies.
    """
    folder = Path(name)
    if folder.name == TENSORS:
        folder = folder.parent
    if str(name) in PRESETS and not folder.is_dir():
        folder = EMBEDDED / str(name)
        if not (folder / CONFIG).is_file():
            return _fresh(str(name), hand, head)
    if not folder.is_dir():
        kind = "no checkpoint folder" if folder.exists() else "no such preset, folder or file"
        raise WeightsError(
            f"{name}: {kind}; give one of {', '.join(PRESETS)}, or a folder with {CONFIG} and {TENSORS}"
            " (`handface weights import` makes one of a released model.bin)"
        )
    network = load_dice(folder, _topology(folder, hand, head))
    return NamedNetwork(network, is_trained(folder), str(folder), _note(folder))


def _fresh(name: str, hand: str | None, head: str | None) -> NamedNetwork:
    topology = Topology.from_bodies(hand or "free-hand", head or "free-head")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = Dice.from_preset(name, topology)
    return NamedNetwork(network.eval(), False, name)


def _note(folder: Path) -> str:
    """What the trainer left beside the weights, in words."""
    try:
        told = json.loads((folder / _NOTE).read_bytes())
        return f"{told['steps']:,} steps, validation {told['metric']} {told['error']:.1f}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _topology(folder: Path, hand: str | None, head: str | None) -> Topology | None:
    """The bodies to check the checkpoint's template against, if both are given and share its mesh levels.

    Released weights have levels of their own; the full resolution is checked where the bodies are used.
    """
    sizes = read_config(folder).sizes
    if hand is None or head is None:
        return None
    topology = Topology.from_bodies(hand, head)
    same_levels = (sizes.hand.vertices[1:], sizes.head.vertices[1:]) == (
        topology.hand.sizes.vertices[1:],
        topology.head.sizes.vertices[1:],
    )
    return topology if same_levels else None
