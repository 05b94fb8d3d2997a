"""The released checkpoint -> our checkpoint folder, once."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from handface.model.network.config import DiceConfig
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.model.weights.checkpoint import mismatches, read_safetensors, require_same_keys, save_tensors, shown
from handface.model.weights.released import Recorded, canonical, infer_config, reason_dead, sources
from handface.model.weights.unfilled import Unfilled
from handface.model.weights.unpickle import WeightsError, module_tensors, read_pickled_module

REPORT = "import_report.json"


@dataclass(frozen=True)
class ConversionReport:
    """What became of every tensor of the file. used, dropped (key -> why): keys of the file."""

    file: str
    used: tuple[str, ...]
    dropped: Mapping[str, str]
    parameters_used: int
    parameters_dropped: int
    template: bool

    def text(self) -> str:
        """For people."""
        reasons: dict[str, int] = {}
        for reason in self.dropped.values():
            reasons[reason] = reasons.get(reason, 0) + 1
        lines = [
            f"{self.file}: {len(self.used)} tensors used ({self.parameters_used:,} parameters),"
            f" {len(self.dropped)} dropped ({self.parameters_dropped:,}), 0 missing"
        ]
        lines += [f"  dropped {count}: {reason}" for reason, count in reasons.items()]
        if not self.template:
            lines.append(
                "  no template: loading needs the hand and head bodies (or import again with --hand-model and --head-model)"
            )
        return "\n".join(lines)


def convert(
    file: Path, folder: Path, topology: Topology | None = None, config: DiceConfig | None = None
) -> ConversionReport:
    """Read a released checkpoint (pickled module or plain state dict) and write our folder with a report.

    topology: the bodies the weights belong to; without it the folder has no template. config: checked against; inferred if None.
    Raises WeightsError naming every missing, unknown and mismatched key; TopologyError for the wrong bodies.
    """
    tensors, recorded = read_released(file)
    try:
        config = config or infer_config(tensors, recorded)
    except WeightsError as error:
        raise WeightsError(f"{file}: {error}") from error
    if topology is not None:
        config.sizes.require(topology.sizes)
        config = dataclasses.replace(config, sizes=topology.sizes, released=True)  # keeps the bodies' names
    ours, report = translate(tensors, config, str(file))
    if topology is not None:
        ours["template"] = torch.from_numpy(topology.template(config.centre_template))
    report = dataclasses.replace(report, template=topology is not None)
    save_tensors(ours, config, folder, trained=True)  # nobody releases weights that were not
    (folder / REPORT).write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n")
    return report


def translate(
    tensors: Mapping[str, torch.Tensor], config: DiceConfig, file: str
) -> tuple[dict[str, torch.Tensor], ConversionReport]:
    """Our state dict (without template) from `canonical` released tensors. Raises WeightsError."""
    with Unfilled():
        expected = {key: value for key, value in Dice(config).state_dict().items() if key != "template"}
    table = sources(config, expected)
    needed = {key for source in table.values() for key in source.keys}
    unknown = {key for key in tensors if key not in needed and reason_dead(key) is None}
    if missing := sorted(needed - tensors.keys()):
        raise WeightsError(f"{file}: {len(missing)} keys missing: {shown(missing)}")
    if unknown:
        raise WeightsError(f"{file}: {len(unknown)} keys belong to no part of the network: {shown(sorted(unknown))}")
    ours: dict[str, torch.Tensor] = {}
    for key, source in table.items():
        try:
            value = source.build(tensors)
        except (IndexError, RuntimeError) as error:
            raise WeightsError(f"{file}: {' + '.join(source.keys)} cannot become {key}: {error}") from error
        ours[key] = value.to(torch.float32) if value.is_floating_point() else value
    if wrong := list(mismatches(expected, ours)):
        raise WeightsError(
            f"{file}: {len(wrong)} keys of another shape than the configuration says: {shown(sorted(wrong))}"
        )
    require_same_keys(expected, ours, file)
    dropped = {key: str(reason_dead(key)) for key in tensors if key not in needed}
    for block, value in ((key, tensors[key]) for key in needed if key.endswith("bert.position_embeddings.weight")):
        if (rows := len(value) - config.sizes.tokens) > 0:
            dropped[f"{block}[{config.sizes.tokens}:]"] = f"{rows} rows for tokens that do not exist"
    total = _count_parameters(tensors)
    used = sum(value.numel() for key, value in ours.items() if not _is_statistic(key))
    return ours, ConversionReport(file, tuple(sorted(needed)), dropped, used, total - used, False)


def _count_parameters(tensors: Mapping[str, torch.Tensor]) -> int:
    return sum(value.numel() for key, value in tensors.items() if not _is_statistic(key))


def _is_statistic(key: str) -> bool:
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))


def read_released(file: Path) -> tuple[dict[str, torch.Tensor], Recorded]:
    """`canonical` tensors of a pickled module, a .safetensors or a plain state dict, and what else is recorded. Nothing is executed."""
    file = Path(file)
    if file.suffix == ".safetensors":
        return canonical(read_safetensors(file)), Recorded({}, None)
    if not file.is_file():
        raise WeightsError(f"{file}: no such file")
    if not zipfile.is_zipfile(file):
        raise WeightsError(f"{file}: not a file of torch.save (or written before torch 1.6); copy it again")
    if (tensors := _plain_state_dict(file)) is not None:
        return canonical(tensors), Recorded({}, None)
    root = read_pickled_module(file)
    return canonical(module_tensors(root)), Recorded.of(root)


def _plain_state_dict(file: Path) -> dict[str, torch.Tensor] | None:
    """The tensors if the file is a state dict, None if it needs the restricted reader."""
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # a pickled network, or damaged in one of many ways: the restricted reader says which
        return None
    for name in ("state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(name), dict):
            loaded = loaded[name]
    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        raise WeightsError(f"{file}: holds neither a network nor a state dict")
    return {str(key): value for key, value in loaded.items()}
