"""Small shard sets: wild ones with 2D labels only, synthetic ones with everything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handface.pipeline.contract.sample import Sample
from handface.pipeline.synthesis.make import SynthesisConfig
from handface.pipeline.synthesis.make import make_sample as make_scene
from handface.trainers.data import DataConfig, DatasetConfig


@pytest.fixture(scope="session")
def scenes() -> list[Sample]:
    """Synthetic samples of 96 px, left and right hands among them."""
    config = SynthesisConfig(seed=3, size=96)
    return [make_scene(k, config) for k in range(6)]


@pytest.fixture(scope="session")
def studio(scenes: list[Sample], write_tar: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scenes in two shards."""
    folder = tmp_path_factory.mktemp("studio")
    write_tar(folder / "a.tar", scenes[:4])
    write_tar(folder / "b.tar", scenes[4:])
    return folder


@pytest.fixture(scope="session")
def wild(make_sample: Any, write_tar: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 23 samples of 64 px in three shards of different sizes."""
    folder = tmp_path_factory.mktemp("wild")
    samples = [make_sample(seed, side=64, depth=False) for seed in range(23)]
    for name, part in (("a", samples[:5]), ("b", samples[5:16]), ("c", samples[16:])):
        write_tar(folder / f"{name}.tar", part)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., DataConfig]:
    """config(folder or DatasetConfig, ..., **fields) -> DataConfig without workers, indexes in a folder of the test's own."""

    def make(*datasets: Path | DatasetConfig, **fields: Any) -> DataConfig:
        chosen = tuple(
            d if isinstance(d, DatasetConfig) else DatasetConfig(d.name or "set", (str(d),)) for d in datasets
        )
        defaults = {"image_size": 64, "batch_size": 4, "workers": 0, "index_folder": str(tmp_path / "index")}
        return DataConfig(datasets=chosen, **(defaults | fields))

    return make
