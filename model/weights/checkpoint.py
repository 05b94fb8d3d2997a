"""Our checkpoint: a folder with `model.safetensors` and `config.json`. No pickle."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from handface.model.network.config import AutoConfig, DiceConfig
from handface.model.network.dice import Dice
from handface.model.network.topology import PartSizes, PartTopology, Topology, TopologyError
from handface.model.weights.unfilled import Unfilled
from handface.model.weights.unpickle import WeightsError

TENSORS, CONFIG = "model.safetensors", "config.json"
_TRAINED = "trained"  # key of the file's metadata
_SHOWN = 8
_SAME_TEMPLATE = 1e-4  # metres


def save_dice(model: Dice, folder: Path, trained: bool = False) -> Path:
    """Write a checkpoint folder; each file appears whole or not at all, the configuration last. Returns the folder.

    trained: whether predictions with these weights mean anything; kept in the file, and shown wherever they are used.
    """
    return save_tensors(model.state_dict(), model.config, folder, trained)


def save_tensors(
    tensors: Mapping[str, torch.Tensor], config: DiceConfig, folder: Path, trained: bool = False, half: bool = False
) -> Path:
    """Write a checkpoint from a state dict. A template that was never set (NaN) is left out. half: float16, half the size."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        name: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in tensors.items()
        if name != "template" or bool(value.isfinite().all())
    }
    temporary = folder / f".{TENSORS}.{os.getpid()}"
    save_file(kept, temporary, metadata={"format": "pt", _TRAINED: "true" if trained else "false"})
    temporary.replace(folder / TENSORS)
    temporary = folder / f".{CONFIG}.{os.getpid()}"
    temporary.write_text(config.to_json() + "\n")
    temporary.replace(folder / CONFIG)
    return folder


def read_config(folder: Path) -> DiceConfig:
    """The configuration of a checkpoint folder. Raises WeightsError."""
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise WeightsError(f"{folder}: no {CONFIG}; a checkpoint is a folder with {CONFIG} and {TENSORS}")
    try:
        return DiceConfig.from_json(path.read_bytes())
    except ValueError as error:
        for name in ("best", "last"):
            if (path.parent / name / CONFIG).is_file():
                raise WeightsError(
                    f"{folder} is the folder of a run; its weights are in {path.parent / name}"
                ) from error
        raise WeightsError(f"{path}: {error}") from error


def load_dice(folder: str | Path, topology: Topology | None = None) -> Dice:
    """A network in eval mode from a checkpoint folder, or from the name of a preset that comes with weights.

    topology: the bodies it is to be used with; needed if the checkpoint carries no template, else checked against it.
    Raises WeightsError naming missing, extra and mismatched keys; TopologyError for the wrong bodies.
    """
    from handface.model.weights.named import require_checkpoint

    folder = require_checkpoint(folder)
    config = read_config(folder)
    if topology is not None:
        config.sizes.require(topology.sizes)
        config = dataclasses.replace(config, sizes=config.sizes.with_bodies(topology.sizes))
    tensors = {name: _widened(value) for name, value in read_safetensors(folder / TENSORS).items()}
    if "template" not in tensors:
        if topology is None:
            raise WeightsError(
                f"{folder}: the checkpoint has no template; give the hand and head bodies it was made for"
            )
        tensors["template"] = torch.from_numpy(topology.template(config.centre_template))
    elif topology is not None:
        _require_same_template(tensors["template"], topology, config)
    if not isinstance(config.backbone, AutoConfig):
        with Unfilled():
            model = Dice(config)
    else:
        model = Dice(config)
    require_same_keys(model.state_dict(), tensors, str(folder / TENSORS))
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def _widened(value: torch.Tensor) -> torch.Tensor:
    """Half precision is for storage: the network runs in float32 unless its caller asks for less."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a file. Raises WeightsError."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path}: damaged ({error}); copy it again") from error


def is_trained(folder: Path) -> bool:
    """Whether whoever wrote the checkpoint says that it was trained. Raises WeightsError."""
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / TENSORS
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(_TRAINED) == "true"
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: damaged or missing ({error}); copy it again") from error


def require_same_keys(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor], file: str) -> None:
    """Raise WeightsError that names missing, extra and mismatched keys."""
    problems = [
        ("missing", sorted(expected.keys() - found.keys())),
        ("not expected", sorted(found.keys() - expected.keys())),
        ("of another shape", list(mismatches(expected, found))),
    ]
    if any(keys for _, keys in problems):
        text = "; ".join(f"{len(keys)} keys {what}: {shown(keys)}" for what, keys in problems if keys)
        raise WeightsError(f"{file} does not fit its configuration: {text}")


def mismatches(expected: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> Iterable[str]:
    """`key (found) instead of (expected)` for every shape that differs."""
    for key in sorted(expected.keys() & found.keys()):
        if expected[key].shape != found[key].shape:
            yield f"{key} {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"


def shown(keys: list[str]) -> str:
    """The first few of a list, and how many more."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _require_same_template(template: torch.Tensor, topology: Topology, config: DiceConfig) -> None:
    distance = max(
        _distance(template, part, given, config) for part, given in (("hand", topology.hand), ("head", topology.head))
    )
    if distance > _SAME_TEMPLATE:
        hand, head = config.sizes.hand.body, config.sizes.head.body
        raise TopologyError(
            f"the bodies have the right counts but another rest shape than the checkpoint's ({hand}, {head}):"
            f" up to {distance * 1000:.1f} mm apart; give the bodies it was made for"
        )


def _distance(template: torch.Tensor, part: str, given: PartTopology, config: DiceConfig) -> float:
    """How far a body's rest shape is from the one that a part of the template was made of, at most, metres."""
    sizes: PartSizes = getattr(config.sizes, part)
    if sizes.rest_sha256 and sizes.rest_sha256 == given.sizes.rest_sha256:
        return 0.0
    groups = template.double().split(list(config.sizes.groups))
    coarse = groups[2 if part == "hand" else 3]
    chosen = given.rest[list(sizes.keep[-1])] if sizes.keep and given.rest is not None else given.coarse
    expected = torch.from_numpy(chosen - (chosen.mean(0) if config.centre_template else 0.0))
    return (coarse - expected).norm(dim=1).max().item()


def describe(config: DiceConfig) -> str:
    """A few lines about a configuration, for people."""
    fields = dataclasses.asdict(config)
    blocks = ", ".join(f"{block.width}x{block.layers}" for block in (*config.mesh, *config.interaction))
    return "\n".join(
        [
            f"preset      {config.preset}",
            f"hand        {config.sizes.hand.body or '-'}  vertices {config.sizes.hand.vertices}",
            f"head        {config.sizes.head.body or '-'}  vertices {config.sizes.head.vertices}",
            f"backbone    {config.backbone.kind}",
            f"blocks      {blocks} (width x layers)",
            f"up-sampling {config.upsampling.kind}",
            f"input       {fields['input']['size']} px, {fields['input']['channel_order']}",
        ]
    )
