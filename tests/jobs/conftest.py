"""The jobs' tests share the small Ray cluster of the pipeline's."""

from tests.pipeline.conftest import ray_cluster

__all__ = ["ray_cluster"]
