"""A small network for the free bodies and small shards with 3D labels, for tests of whole runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.model.weights.checkpoint import save_dice
from handface.trainers.config import OptimConfig, TrainConfig
from handface.trainers.data import DataConfig, DatasetConfig
from handface.trainers.losses import LossConfig, LossWeights
from tests.model.narrow import narrow_config
from tests.trainers.labelled import studio_samples

MakeRun = Callable[..., TrainConfig]


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def narrow_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fresh weights of a very small network for the free bodies, 64 pixels."""
    topology = Topology.from_bodies()
    torch.manual_seed(0)
    return save_dice(Dice(narrow_config(topology.sizes), topology), tmp_path_factory.mktemp("narrow"))


@pytest.fixture(scope="session")
def shard(tmp_path_factory: pytest.TempPathFactory, make_sample, write_tar) -> Path:  # type: ignore[no-untyped-def]
    """Twelve samples with 3D labels."""
    return write_tar(tmp_path_factory.mktemp("shards") / "studio.tar", studio_samples(make_sample, 12))


@pytest.fixture
def make_run(tmp_path: Path, narrow_weights: Path, shard: Path) -> MakeRun:
    """make_run(name="run", batch_size=4, **TrainConfig fields): a run of a few seconds."""
    return runs_in(tmp_path, narrow_weights, shard)


def runs_in(folder: Path, narrow_weights: Path, shard: Path) -> MakeRun:
    """`make_run` for a folder of one's own."""

    def make(name: str = "run", batch_size: int = 4, **changes: object) -> TrainConfig:
        settings: dict[str, object] = {
            "output": str(folder / name),
            "init": str(narrow_weights),
            "steps": 4,
            "loss": LossConfig(LossWeights(touch=0, collision=0)),
            "optim": OptimConfig(lr=1e-4, warm_up=2, schedule="constant"),
            "log_every": 1,
            "validate_every": 2,
            "checkpoint_every": 2,
        }
        data = DataConfig(
            (DatasetConfig("studio", (str(shard),)),),
            image_size=64,
            batch_size=batch_size,
            workers=0,
            index_folder=str(folder / "index"),
            hand_body="free-hand",
            head_body="free-head",
        )
        return TrainConfig(data=data, **(settings | changes))  # type: ignore[arg-type]

    return make
