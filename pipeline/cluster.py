"""Finds the Ray cluster to work on: the one already connected, the one RAY_ADDRESS names, or a small local one of our own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

_STORE_BYTES, _STORE_BYTES_PER_WORKER = 256 << 20, 64 << 20


@contextmanager
def cluster(num_cpus: int, num_gpus: int | None = None) -> Iterator[dict[str, float]]:
    """Connect, yield the cluster's total resources ({"CPU": ..., "GPU": ...}), and leave it as it was found.

    A cluster that was already running is never shut down; one started here ends with the block. num_cpus, num_gpus: size of
    a cluster that must be started (None: the GPUs that Ray finds).  Raises ConnectionError if RAY_ADDRESS leads nowhere.
    """
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(
        logging.ERROR
    )  # its notes on progress bars and block formats tell a user nothing
    if ray.is_initialized():
        yield ray.cluster_resources()
        return
    address = os.environ.get("RAY_ADDRESS")
    if address:
        ray.init(address=address, logging_level=logging.WARNING, log_to_driver=False)
    else:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            object_store_memory=_STORE_BYTES + num_cpus * _STORE_BYTES_PER_WORKER,
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()  # only disconnects from a cluster that RAY_ADDRESS named
