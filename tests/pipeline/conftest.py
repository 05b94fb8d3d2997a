"""One small Ray cluster for all rooms' tests: starting one costs seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handface.pipeline.engine.cluster import _start


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A running cluster of 4 CPUs that the engine must use and leave alone."""
    import ray

    if ray.is_initialized():  # by the other room's tests
        yield
        return
    _start(  # which tries again where the machine is too busy: one failure would be that of every test on Ray
        num_cpus=4,
        object_store_memory=200 << 20,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}},  # workers import the toy stages
    )
    yield
    assert ray.is_initialized(), "the engine shut down a cluster that it did not start"
    ray.shutdown()
