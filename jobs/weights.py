"""Convert, describe and export network weights. `import` reads the released DICE checkpoint without executing it."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from handface.extras import require
from handface.jobs.shared.inputs import require_files
from handface.jobs.shared.outputs import OneFile
from handface.jobs.shared.signals import sigterm_raises
from handface.pipeline.contract.config import Count

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from handface.model.network.topology import Topology


@dataclass(frozen=True)
class Import:
    """Turn the released checkpoint (a pickled network, or a state dict) into a folder with safetensors and config."""

    file: tyro.conf.Positional[Path]
    """`model.bin` of the release, or a state dict (.bin, .pth, .safetensors)."""
    output: Path
    """Folder to write."""
    hand_model: str | None = None
    """Imported MANO body (.npz), from `handface bodies import`."""
    head_model: str | None = None
    """Imported FLAME body (.npz)."""
    hand_transforms: Path | None = None
    """The release's hand_mesh_transforms.pt: which vertices the tokens stand for."""
    head_transforms: Path | None = None
    """The release's head_mesh_transforms.pt."""


@dataclass(frozen=True)
class New:
    """Fresh weights of a preset, with its backbone trained on ImageNet where there is such a file: what `train --init` takes."""

    preset: tyro.conf.Positional[str]
    """The network, e.g. dice-m."""
    output: Path
    """Folder to write."""
    imagenet: Path | None = None
    """ImageNet weights of the backbone (.pth or .safetensors); of dice-m those of the model store if none are named."""
    hand_model: str = "free-hand"
    """Hand body."""
    head_model: str = "free-head"
    """Head body."""
    points: tuple[str, ...] = ()
    """Shards with 3D labels, of which a network that looks at points (dice-m) first learns what points alone tell: minutes, no pictures."""
    points_found: tuple[str, ...] = ()
    """Lists of what the detector finds in these shards (`handface weights points`): learn from those, as prediction is given them."""
    points_steps: int = 3500
    """Steps of that, of 128 samples each."""
    seed: int = 0
    """Of the fresh weights."""


@dataclass(frozen=True)
class Points:
    """List what the predictor's detector finds in shards of scenes: what `new --points-found` and `train` give a network that looks at points."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Shards whose labels are the truth, as of `handface synthesize`."""
    output: Annotated[Path, OneFile()]
    """The parquet list to write."""
    processes: Count = 1
    """How many detectors work side by side."""


@dataclass(frozen=True)
class Info:
    """Describe a checkpoint folder."""

    folder: tyro.conf.Positional[str]
    """Checkpoint folder (a path, s3://, gs://), or a preset that comes with weights (dice-m, dice-nano)."""


@dataclass(frozen=True)
class Export:
    """Write a checkpoint as ONNX and check it against the network."""

    folder: tyro.conf.Positional[str]
    """Checkpoint folder (a path, s3://, gs://), or a preset that comes with weights (dice-m, dice-nano)."""
    output: Annotated[Path, OneFile()]
    """The .onnx file to write."""
    hand_model: str | None = None
    """Hand body, if the checkpoint has no template."""
    head_model: str | None = None
    """Head body, if the checkpoint has no template."""
    tolerance: float = 1e-4
    """Largest relative error of any output."""
    openvino: Literal["no", "fp32", "bf16"] = "no"
    """Also run the file with OpenVINO at this precision and print its error (needs the `openvino` extra)."""
    openvino_tolerance: float | None = None
    """Largest relative error of any output with OpenVINO; None: 1e-4 in fp32, 0.05 in bf16. Beyond it, the command fails."""


_OPENVINO_TOLERANCE = {"fp32": 1e-4, "bf16": 0.05}
SUBCOMMANDS = {"import": Import, "new": New, "points": Points, "info": Info, "export": Export}


def run(config: Import | New | Points | Info | Export) -> int:
    """Do it and say what was done. Returns 0; wrong files raise WeightsError, TopologyError or OnnxExportError."""
    if isinstance(config, Import):
        return _import(config)
    if isinstance(config, New):
        return _new(config)
    if isinstance(config, Points):
        return _points(config)
    return _info(config) if isinstance(config, Info) else _export(config)


def _new(config: New) -> int:
    import torch

    from handface.model.network.dice import Dice
    from handface.model.network.hrnet import HRNet
    from handface.model.network.mobilenet import MobileNet
    from handface.model.network.topology import Topology
    from handface.model.weights.checkpoint import save_dice
    from handface.model.weights.imagenet import load_imagenet
    from handface.pipeline.contract.model_store import ModelStore

    require_files("--points-found", config.points_found)
    torch.manual_seed(config.seed)
    network = Dice.from_preset(config.preset, Topology.from_bodies(config.hand_model, config.head_model))
    file, backbone = config.imagenet, network.backbone
    if file is None and isinstance(backbone, MobileNet):
        file = ModelStore().path("mobilenet-v2-imagenet")
    if file is not None:
        if not isinstance(backbone, HRNet | MobileNet):
            raise ValueError(f"{config.preset}: its backbone brings its own weights; leave --imagenet out")
        print(f"{len(load_imagenet(backbone, file).used)} tensors of the backbone from {file}")
    if config.points:
        from handface.trainers.points import PointLabels, PointsPhase, learn_points

        labels = PointLabels.read(network, config.points, config.points_found)
        print(f"learning from the points of {len(labels.points):,} samples", flush=True)
        learn_points(network, labels, PointsPhase(steps=config.points_steps, seed=config.seed))
    save_dice(network, config.output)
    print(f"wrote {config.output}; next: handface train --init {config.output} ...")
    return 0


def _points(config: Points) -> int:
    from handface.jobs.shared.progress import Progress
    from handface.pipeline.contract.found_points import dump_points
    from handface.pipeline.contract.shards import find_shards
    from handface.predict.found import find_points

    if not config.shards:
        raise ValueError("give the shards: handface weights points SHARDS --output FILE")
    if config.processes < 1:
        raise ValueError(f"--processes is {config.processes}; at least 1")
    shards, samples, own = find_shards(config.shards), 0, 0
    points: dict[str, NDArray[np.float32]] = {}
    with Progress("points", len(shards), unit="shards") as progress:
        for found in find_points(shards, config.processes):
            points |= found.points
            samples += found.samples
            own += found.own
            progress.advance(1)
    if own:
        log.warning(
            "%d of %d samples have the detector's own points for labels, as `handface annotate` writes them: compared with itself it"
            " makes no errors, so a network would learn nothing of those that it will be given; name shards whose labels are the"
            " truth, such as those of `handface synthesize`",
            *(own, samples),
        )
    if not points:
        raise ValueError(
            f"of {samples:,} samples in {', '.join(config.shards)} the detector finds nobody who is labelled"
        )
    config.output.parent.mkdir(parents=True, exist_ok=True)
    config.output.write_bytes(dump_points(points))
    print(f"found the labelled person in {len(points):,} of {samples:,} samples; wrote {config.output}")
    return 0


def _import(config: Import) -> int:
    from handface.model.weights.convert import convert

    if not config.file.is_file():
        raise FileNotFoundError(f"{config.file}: no such file")
    report = convert(config.file, config.output, _released_topology(config))
    print(report.text())
    print(f"wrote {config.output}")
    return 0


def _released_topology(config: Import) -> Topology:
    """The rest shape of the bodies at the vertices that the release selects. Raises ValueError where one of the four files is missing."""
    if (
        config.hand_model is None
        or config.head_model is None
        or config.hand_transforms is None
        or config.head_transforms is None
    ):
        raise ValueError(
            "give --hand-model, --head-model, --hand-transforms and --head-transforms: only the release's transform files say which"
            " vertices its tokens stand for"
        )
    from handface.model.weights.released_topology import released_topology

    return released_topology(config.hand_model, config.head_model, config.hand_transforms, config.head_transforms)


def _info(config: Info) -> int:
    from handface.model.weights.checkpoint import TENSORS, describe, read_config, read_safetensors
    from handface.model.weights.named import require_checkpoint
    from handface.pipeline.contract.checkpoints import local_weights

    with local_weights(config.folder) as local:
        folder = require_checkpoint(local)
        description = describe(read_config(folder))
        tensors = read_safetensors(folder / TENSORS)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    parameters = sum(value.numel() for key, value in tensors.items() if not key.endswith(statistics))
    print(description)
    print(f"tensors     {len(tensors)} ({parameters:,} parameters)")
    print(f"template    {'in the file' if 'template' in tensors else 'not in the file: loading needs the bodies'}")
    return 0


def _export(config: Export) -> int:
    from handface.model.weights.named import load_network, require_checkpoint
    from handface.pipeline.contract.checkpoints import local_weights

    if "://" not in config.folder:
        require_checkpoint(Path(config.folder).expanduser())
    require("onnxruntime", "weights export", "onnxruntime")
    from handface.model.network.deploy.export import (
        OnnxExportError,
        compare,
        example,
        export_onnx,
        openvino_session,
        worst_of,
    )
    from handface.model.network.deploy.fold import fold

    with local_weights(config.folder) as local:
        folder = require_checkpoint(local)
        model = load_network(folder, config.hand_model, config.head_model).network
    with sigterm_raises():
        errors = export_onnx(model, config.output, config.tolerance)
    print(
        f"wrote {config.output}: {len(errors)} outputs, largest relative error {max(errors.values()):.1e} (onnxruntime)"
    )
    if config.openvino != "no":
        session = openvino_session(config.output, config.openvino)
        errors = compare(fold(model), session, *example(model, 2))
        worst = worst_of(errors)
        print(f"OpenVINO {config.openvino}: largest relative error {errors[worst]:.1e} ({worst})")
        allowed = config.openvino_tolerance
        if allowed is None:
            allowed = _OPENVINO_TOLERANCE[config.openvino]
        if not errors[worst] <= allowed:
            raise OnnxExportError(
                f"OpenVINO {config.openvino} is off by {errors[worst]:.1e} in {worst}, more than {allowed:.0e}: the ONNX file is good, but"
                " do not run it so; --openvino fp32, or a larger --openvino-tolerance"
            )
    return 0


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("weights"))
