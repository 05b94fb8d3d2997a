"""Show a training batch as one picture: what the network gets, mirrored and varied, with all labels drawn on it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from handface.jobs.shared.outputs import OneFile
from handface.pipeline.contract.config import Count
from handface.trainers.data.config import AugmentConfig, set_name

if TYPE_CHECKING:
    from handface.trainers.batch import Batch
    from handface.trainers.data import Loader


@dataclass(frozen=True)
class Config:
    """Which samples and how they are varied."""

    shards: tyro.conf.Positional[tuple[str, ...]]
    """Each is a data set of its own, with the same weight: a tar, a folder of them, or a glob; local path or fsspec URI."""
    output: Annotated[str, OneFile()] = "batch.png"
    """The picture."""
    count: Count = 16
    """Samples to show."""
    columns: Count = 4
    """Samples in a row."""
    tile: Count = 320
    """Side of each, pixels."""
    start: int = 0
    """Position in the stream."""
    seed: int = 0
    """Of order and variation."""
    plain: bool = False
    """Do not vary pictures; left hands are still mirrored."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How pictures are varied."""
    image_size: int = 224
    """Side of the network's input."""
    hand_model: str = "free-hand"
    """The hand that 3D labels must be of."""
    head_model: str = "free-head"
    """The head that 3D labels must be of."""


def run(config: Config) -> int:
    """Write the picture and print what is in the batch. Returns 0, or 1 if samples were unreadable or labels left out."""
    from PIL import Image

    from handface.trainers.data import DataConfig, DatasetConfig, make_loader
    from handface.trainers.data.sheet import contact_sheet

    if not config.shards:
        raise ValueError("name at least one shard, folder or glob")
    if config.count < 1 or config.columns < 1 or config.tile < 64:
        raise ValueError("count and columns are at least 1, tile at least 64")
    names = _names(config.shards)
    data = DataConfig(
        datasets=tuple(DatasetConfig(name, (uri,)) for name, uri in names.items()),
        image_size=config.image_size,
        batch_size=config.count,
        seed=config.seed,
        augment=AugmentConfig.none() if config.plain else config.augment,
        hand_body=config.hand_model,
        head_body=config.head_model,
        workers=0,
    )
    loader = make_loader(data, start=config.start)
    batch = next(iter(loader))
    sheet = contact_sheet(batch, loader.names, config.hand_model, config.head_model, config.columns, config.tile)
    Path(config.output).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(config.output)
    _print(batch, loader, names, config.output)
    return 1 if loader.bad or loader.remarks else 0


def _names(shards: tuple[str, ...]) -> dict[str, str]:
    """{name: path} of the data sets; a path that is named twice is shown once."""
    names: dict[str, str] = {}
    for uri in dict.fromkeys(shards):
        names[set_name(uri, names)] = uri
    return names


def _print(batch: Batch, loader: Loader, where: Mapping[str, str], output: str) -> None:
    print(f"{'data set':<24}{'samples':>9}{'shown':>7}{'mesh':>6}{'contact':>9}{'deform':>8}{'depth':>7}  shards")
    for number, (name, size) in enumerate(zip(loader.names, loader.sizes, strict=True)):
        mine = batch.origins == number
        flags = (batch.has_mesh, batch.has_contact, batch.has_deformation, batch.depth_kind >= 0)
        mesh, contact, deformation, depth = (int((flag & mine).sum()) for flag in flags)
        print(f"{name:<24}{size:>9,}{int(mine.sum()):>7}{mesh:>6}{contact:>9}{deformation:>8}{depth:>7}  {where[name]}")
    for remark, count in loader.remarks.items():
        print(f"left out {count} times: {remark}")
    for key, why in loader.bad.items():
        print(f"unreadable: {key}: {why}")
    print(f"written to {output}")


if __name__ == "__main__":
    from handface.jobs.cli import main_for

    sys.exit(main_for("inspect-data"))
