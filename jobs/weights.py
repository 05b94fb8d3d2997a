"""Convert, describe and export network weights. `import` reads the released DICE checkpoint without executing it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

if TYPE_CHECKING:
    from handface.model.network.topology import Topology


@dataclass(frozen=True)
class Import:
    """Turn the released checkpoint (a pickled network, or a state dict) into a folder with safetensors and config."""

    file: tyro.conf.Positional[Path]
    """`model.bin` of the release, or a state dict (.bin, .pth, .safetensors)."""
    output: Path
    """Folder to write."""
    hand_model: str | None = None
    """Imported MANO body (.npz). Without the bodies the folder has no template and loading asks for them."""
    head_model: str | None = None
    """Imported FLAME body (.npz)."""
    hand_transforms: Path | None = None
    """The release's hand_mesh_transforms.pt: which vertices the tokens stand for."""
    head_transforms: Path | None = None
    """The release's head_mesh_transforms.pt."""


@dataclass(frozen=True)
class Info:
    """Describe a checkpoint folder."""

    folder: tyro.conf.Positional[Path]
    """Folder with model.safetensors and config.json."""


@dataclass(frozen=True)
class Export:
    """Write a checkpoint as ONNX and check it against the network."""

    folder: tyro.conf.Positional[Path]
    """Folder with model.safetensors and config.json."""
    output: Path
    """The .onnx file to write."""
    hand_model: str | None = None
    """Hand body, if the checkpoint has no template."""
    head_model: str | None = None
    """Head body, if the checkpoint has no template."""
    tolerance: float = 1e-4
    """Largest relative error of any output."""
    openvino: Literal["no", "fp32", "bf16"] = "no"
    """Also run the file with OpenVINO at this precision and print its error (needs the `openvino` extra)."""


SUBCOMMANDS = {"import": Import, "info": Info, "export": Export}


def run(config: Import | Info | Export) -> int:
    """Do it and say what was done. Returns 0; wrong files raise WeightsError, TopologyError or ExportError."""
    if isinstance(config, Import):
        return _import(config)
    return _info(config) if isinstance(config, Info) else _export(config)


def _import(config: Import) -> int:
    from handface.model.weights.convert import convert

    report = convert(config.file, config.output, _released_topology(config))
    print(report.text())
    print(f"wrote {config.output}")
    return 0


def _released_topology(config: Import) -> Topology | None:
    """The bodies' topology, if they were given; both or neither, and then with the transforms."""
    given = (config.hand_model, config.head_model, config.hand_transforms, config.head_transforms)
    if all(value is None for value in given):
        return None
    if (
        config.hand_model is None
        or config.head_model is None
        or config.hand_transforms is None
        or config.head_transforms is None
    ):
        raise ValueError(
            "give all of --hand-model, --head-model, --hand-transforms and --head-transforms, or none of them"
        )
    from handface.model.weights.released_topology import released_topology

    return released_topology(config.hand_model, config.head_model, config.hand_transforms, config.head_transforms)


def _info(config: Info) -> int:
    from handface.model.weights.checkpoint import TENSORS, describe, read_config, read_safetensors

    description = describe(read_config(config.folder))
    tensors = read_safetensors(config.folder / TENSORS)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(value.numel() for key, value in tensors.items() if not key.endswith(statistics))
    print(description)
    print(f"tensors     {len(tensors)} ({parameters:,} parameters)")
    print(f"template    {'in the file' if 'template' in tensors else 'not in the file: loading needs the bodies'}")
    return 0


def _export(config: Export) -> int:
    from handface.model.network.export import compare, example, export_onnx, openvino_session
    from handface.model.network.fold import fold
    from handface.model.network.topology import Topology
    from handface.model.weights.checkpoint import load_dice

    if (config.hand_model is None) != (config.head_model is None):
        raise ValueError("give both --hand-model and --head-model, or neither")
    topology = None
    if config.hand_model is not None and config.head_model is not None:
        topology = Topology.from_bodies(config.hand_model, config.head_model)
    model = load_dice(config.folder, topology)
    errors = export_onnx(model, config.output, config.tolerance)
    print(
        f"wrote {config.output}: {len(errors)} outputs, largest relative error {max(errors.values()):.1e} (onnxruntime)"
    )
    if config.openvino != "no":
        session = openvino_session(config.output, config.openvino)
        errors = compare(fold(model), session, example(model, 2))
        print(f"OpenVINO {config.openvino}: largest relative error {max(errors.values()):.1e}")
    return 0


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("weights"))
