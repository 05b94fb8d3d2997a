"""Shards -> batches: a weighted mix of shard sets in an order that depends on nothing but its seed. Start reading at loader.py.

config = DataConfig(datasets=(DatasetConfig("studio", ("out/studio",)), DatasetConfig("wild", ("out/wild",), weak=True)))
loader = make_loader(config, rank=0, world=1, start=0)
for batch in loader:  # endless
    ...
    state = loader.state_dict()  # {"position": samples consumed by all ranks, "fingerprint": ...}
"""

from trainers.data.config import AugmentConfig, DataConfig, DatasetConfig
from trainers.data.errors import DataError
from trainers.data.loader import Loader, make_loader, make_pass
from trainers.data.order import MixOrder

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
