"""Finds the Ray cluster to work on: the one already connected, the one RAY_ADDRESS names, or a small local one of our own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil

_STORE_BYTES, _STORE_BYTES_PER_WORKER = 256 << 20, 64 << 20


@contextmanager
def cluster(workers: int, at_least: float = 1) -> Iterator[dict[str, float]]:
    """Connect, yield the cluster's total resources ({"CPU": ..., "GPU": ...}), and leave it as it was found.

    A cluster that was already running is never shut down; one started here ends with the block.
    workers: CPUs of a cluster that must be started, 0 for those this process may use; at_least: CPUs that the actors need to
    exist at all.  Raises ConnectionError if RAY_ADDRESS leads nowhere.
    """
    if not os.environ.get("RAY_ADDRESS"):
        keep_to_loopback()
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
        num_cpus = max(workers or available_cpus(), ceil(at_least))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=num_cpus,
            object_store_memory=_STORE_BYTES + num_cpus * _STORE_BYTES_PER_WORKER,
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    try:
        yield ray.cluster_resources()
    finally:
        ray.shutdown()  # only disconnects from a cluster that RAY_ADDRESS named


def keep_to_loopback() -> None:
    """Have a cluster that this process starts, and drivers in it, listen on 127.0.0.1 alone, as Ray does on other systems than Linux.

    Whoever reaches Ray's ports may run code. To be called before Ray is imported; later it changes nothing.
    """
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


def available_cpus() -> int:
    """CPUs this process may use, which a container or taskset can make fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
