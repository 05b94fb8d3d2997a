"""A Ray cluster of several nodes on this machine, one of which can die."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from handface.pipeline.engine.cluster import keep_to_loopback

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

# so that the death of a whole machine is noticed in seconds, not in half a minute
_QUICK = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
_NODE: dict[str, Any] = {"node_ip_address": "127.0.0.1", "object_store_memory": 100 << 20, "include_dashboard": False}


@contextmanager
def several_nodes(nodes: int) -> Iterator[Cluster]:
    """A head without CPUs, so that all work is done where it can be lost, and nodes of one CPU each. Loopback only.

    RAY_ADDRESS names it to whatever is started inside the block.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    keep_to_loopback()
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_NODE | {"num_cpus": 0, "_system_config": _QUICK})
    before = os.environ.get("RAY_ADDRESS")
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=1, **_NODE)
        os.environ["RAY_ADDRESS"] = cluster.address
        yield cluster
    finally:
        if before is None:
            os.environ.pop("RAY_ADDRESS", None)
        else:
            os.environ["RAY_ADDRESS"] = before
        cluster.shutdown()


@contextmanager
def killed_when(cluster: Cluster, due: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """While the block runs, kill one node (its daemon and all workers) as soon as `due` says so. Yields whether it was done."""
    ended, killed = Event(), Event()

    def watch() -> None:
        while not ended.is_set():
            if due():
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
                killed.set()
                return
            time.sleep(0.05)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield killed.is_set
    finally:
        ended.set()
        watcher.join()
