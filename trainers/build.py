"""The network that a run starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from handface.model.network.config import DiceConfig, MobileNetConfig, preset
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.model.weights.checkpoint import CONFIG, TENSORS, is_trained, load_dice, read_config
from handface.model.weights.named import require_checkpoint
from handface.pipeline.contract.checkpoints import local_weights
from handface.trainers.config import TrainConfig
from handface.trainers.run_folder.checkpoint import CheckpointError
from handface.trainers.run_folder.storage import with_retries


def build_network(config: TrainConfig) -> Dice:
    """The network that a run starts from: `start_network` without its second answer."""
    return start_network(config)[0]


def start_network(config: TrainConfig) -> tuple[Dice, bool]:
    """The network with random weights of the run's seed, or those of `init`, and whether these were trained.

    Raises ValueError if it sees pictures of another size, or if its backbone is frozen and there is no `init`.
    """
    trained = False
    topology = Topology.from_bodies(config.data.hand_body or "free-hand", config.data.head_body or "free-head")
    if config.init is not None:
        with _initial_weights(config.init) as folder:
            network, trained = load_dice(folder, topology), is_trained(folder)
    else:
        chosen = preset(config.preset, topology.sizes)
        if isinstance(chosen.backbone, MobileNetConfig) and chosen.backbone.frozen:
            raise ValueError(
                f"{config.preset} keeps its backbone as it is, so random weights would stay random: start from those that"
                f" `handface weights new {config.preset} --output start` writes, with --init start"
            )
        torch.manual_seed(config.seed)
        network = Dice(chosen.with_one_branch() if config.one_branch else chosen, topology)
    side = network.config.input.size
    if config.data.image_size != side:
        raise ValueError(
            f"data.image_size is {config.data.image_size}, but {config.init or config.preset} sees {side} pixels"
        )
    return network, trained


def network_config(init: str | None, name: str) -> DiceConfig:
    """The architecture that a run trains: of its initial weights, else of its preset. Raises WeightsError or ValueError."""
    if init is None:
        return preset(name)
    with _initial_weights(init, (CONFIG,)) as folder:
        return read_config(folder)


@contextmanager
def _initial_weights(init: str, files: tuple[str, ...] = (CONFIG, TENSORS)) -> Iterator[Path]:
    """The folder of a run's first weights, on this machine; a storage that is away is waited for."""
    with ExitStack() as stack:
        yield require_checkpoint(with_retries(init, lambda: stack.enter_context(local_weights(init, files))))


def check_bodies(network: Dice, state: Mapping[str, torch.Tensor]) -> None:
    """Raise CheckpointError unless a saved network was made for the same bodies."""
    mine, saved = network.template, state.get("template")
    if saved is None or saved.shape != mine.shape or not torch.allclose(saved.to(mine), mine, atol=1e-5):
        raise CheckpointError(
            "the checkpoint was trained with other bodies than --hand-model and --head-model name now; give those it was trained"
            " with, or choose another output folder"
        )
