"""What an evaluation needs before it can start, from names: network, data, surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from handface.model.network.deploy.inference import InferenceConfig, prepare
from handface.model.network.dice import Dice
from handface.model.network.mesh import Mesh
from handface.model.network.topology import Sizes, Topology
from handface.model.weights.checkpoint import load_dice, read_config
from handface.model.weights.named import require_checkpoint
from handface.pipeline.contract.checkpoints import local_weights
from handface.trainers.data import DataConfig, DatasetConfig
from handface.trainers.data.config import set_name, split_name
from handface.trainers.evaluation.run import Row
from handface.trainers.evaluation.systems import NetworkSystem, RunOnce
from handface.trainers.evaluation.truth import LabelMeshes
from handface.trainers.geometry import closed_faces
from handface.trainers.metrics import Surface

_ORACLE_LIMIT = 1e-3  # mm: rounding of single precision stays far below


def open_network(
    folder: str | None, hand_body: str | None, head_body: str | None, device: torch.device
) -> tuple[Dice | None, Sizes]:
    """The network, None without a folder, and the sizes of its bodies, whose names the caller may replace.

    Raises WeightsError, BodyFileError, TopologyError.
    """
    if folder is None:
        return None, Topology.from_bodies(hand_body or "free-hand", head_body or "free-head").sizes
    with local_weights(folder) as local:
        found = require_checkpoint(local)
        known = read_config(found).sizes
        model = load_dice(found, Topology.from_bodies(hand_body or known.hand.body, head_body or known.head.body))
    return model.to(device), model.config.sizes


def data_of(
    shards: Sequence[str],
    sizes: Sizes,
    side: int,
    batch_size: int,
    workers: int,
    limit: int | None,
    found: tuple[str, ...] = (),
) -> DataConfig:
    """Data sets from NAME=PATH or PATH, in order, for pictures of `side` pixels. A name that comes twice gets a number."""
    datasets: list[DatasetConfig] = []
    for argument in shards:
        name, path = split_name(argument)
        name = set_name(name or path, [dataset.name for dataset in datasets])
        datasets.append(DatasetConfig(name, (path,), found=found, limit=limit))
    return DataConfig(
        tuple(datasets),
        image_size=side,
        batch_size=batch_size,
        shuffle="none",
        hand_body=sizes.hand.body,
        head_body=sizes.head.body,
        workers=workers,
    )


def closed_surface(truth: LabelMeshes) -> Surface:
    """The head's surface and the caps that close it."""
    faces = truth.head.faces
    return Surface(faces, torch.from_numpy(closed_faces(truth.head.arrays)[len(faces) :]).to(faces))


def network_systems(
    model: Dice, sizes: Sizes, precision: Literal["fp32", "bf16"], points: bool = True
) -> dict[Mesh, NetworkSystem]:
    """The network as a system to be measured, prepared for inference on its device, once for each mesh that it can mean.

    points: as of `NetworkSystem`.
    """
    device = model.template.device
    hand, head = sizes.hand.load().to(device), sizes.head.load().to(device)
    run = RunOnce(prepare(model, InferenceConfig(precision)))
    return {mesh: NetworkSystem(run, model.config, hand, head, mesh, points) for mesh in ("parametric", "drawn")}


def oracle_error(rows: Sequence[Row], oracle: str) -> str | None:
    """What is wrong if the labels do not score perfectly against themselves: then the metrics or the labels are broken."""
    for row in rows:
        if row.system == oracle:
            for name in ("pve_same", "mpjpe_same", "pa_mpjpe", "deformation"):
                estimate = row.frames.get(name)
                if estimate is not None and estimate.known and abs(estimate.value) > _ORACLE_LIMIT:
                    return f"the labels themselves have {name} {estimate.value:.4f} mm instead of 0"
    return None
