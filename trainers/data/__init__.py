"""Shards -> batches: a weighted mix of shard sets in an order that depends on nothing but its seed. Start reading at loader.py.

config = DataConfig(datasets=(DatasetConfig("studio", ("out/studio",)), DatasetConfig("wild", ("out/wild",), weak=True)))
loader = make_loader(config, rank=0, world=1, start=0)
for batch in loader:  # endless
    ...
    state = loader.state_dict()  # {"position": samples consumed by all ranks, "fingerprint": ..., "sets": ...}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handface.trainers.data.config import AugmentConfig, DataConfig, DatasetConfig
from handface.trainers.data.errors import DataError
from handface.trainers.data.order import MixOrder

if TYPE_CHECKING:
    from handface.trainers.data.loader import Loader, make_loader, make_pass

__all__ = [
    "AugmentConfig",
    "DataConfig",
    "DataError",
    "DatasetConfig",
    "Loader",
    "MixOrder",
    "make_loader",
    "make_pass",
]


def __getattr__(name: str) -> Any:
    """The loader brings torch; a command line that only wants the configs' flags does without."""
    if name not in ("Loader", "make_loader", "make_pass"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from handface.trainers.data import loader

    return getattr(loader, name)
