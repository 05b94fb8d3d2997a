"""The training loop on Ray Train workers. Lost ones are started again and go on from the run's newest checkpoint."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handface.trainers.config import TrainConfig


class WorkersError(RuntimeError):
    """Training on Ray's workers failed; the message is the worker's error, or Ray's."""


def read_workers(workers: str) -> tuple[int, int]:
    """The least and the most workers of N, or of MIN..MAX, which goes on with fewer while machines are missing; 0 is no Ray at all.

    Raises ValueError for what is no number of workers.
    """
    low, dots, high = workers.partition("..")
    try:
        least, most = int(low), int(high if dots else low)
    except ValueError:
        least, most = -1, -1
    if not (1 <= least <= most or workers == "0"):
        raise ValueError(f"--workers {workers}: N or MIN..MAX is expected, with at least 1 worker, or 0 for no Ray")
    return least, most


def train_on_ray(config: TrainConfig, workers: str, gpus: bool, failures: int) -> None:
    """Run `trainers.train` on workers of the cluster that is there, or of a local one.

    Args:
        config: The run; its folder must be seen by all workers.
        workers: As `read_workers` takes them.
        gpus: One GPU for each worker.
        failures: Times that lost workers are started again. Errors that would come again are not retried.

    Raises:
        WorkersError: A worker met an error that a restart does not mend, or workers were lost too often.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from handface.pipeline.contract.storage import Folder
    from handface.pipeline.engine.cluster import cluster
    from handface.trainers.data.probe import with_bodies
    from handface.trainers.run_folder.checkpoint import list_checkpoints
    from handface.trainers.run_folder.paths import absolute_paths
    from handface.trainers.run_folder.resume import require_fresh

    least, most = read_workers(workers)
    count: Any = most if least == most else (least, most)
    # Ray's workers sit in another folder
    config = absolute_paths(config)
    require_fresh(config, list_checkpoints(config.output))
    # also finds shards or bodies that are missing before any worker is started
    config = replace(config, data=with_bodies(config.data), resume="auto")
    output = Folder(config.output)
    local = Path(output.path())
    with tempfile.TemporaryDirectory(prefix="handface-ray-") as scratch, cluster(most):
        own = str(local.parent) if output.local else scratch
        verdict: Any = ray.remote(num_cpus=0)(_Verdict).remote()
        trainer = TorchTrainer(
            _work,
            train_loop_config={"config": config.dumps(), "verdict": verdict},
            scaling_config=ScalingConfig(num_workers=count, use_gpu=gpus),
            run_config=RunConfig(
                name=config.output.rstrip("/").rpartition("/")[2],
                storage_path=own,
                failure_config=FailureConfig(max_failures=failures),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            if message := ray.get(verdict.get.remote()):
                raise WorkersError(message) from error
            reason = " ".join(str(error).split())
            raise WorkersError(
                f"Ray's workers ended {failures + 1} times: {reason[-600:]}. The same command goes on from the last checkpoint"
            ) from error
        if message := ray.get(verdict.get.remote()):
            raise WorkersError(message)


class _Verdict:
    """Keeps the error that no restart mends, so that workers that are started again need not meet it again."""

    def __init__(self) -> None:
        self.message = ""

    def get(self) -> str:
        """The error's message, "" while there is none."""
        return self.message

    def set(self, message: str) -> None:
        """Keep an error; the first one stays."""
        self.message = self.message or message


def _work(settings: Mapping[str, Any]) -> None:
    """What every Ray Train worker runs; Ray has set up the process group."""
    import ray
    import ray.train

    from handface.trainers.config import TrainConfig
    from handface.trainers.run_folder.storage import is_outage
    from handface.trainers.trainer import train

    verdict = settings["verdict"]
    if ray.get(verdict.get.remote()):
        return
    try:
        config = TrainConfig.loads(settings["config"])
        train(config, report=lambda step, values: ray.train.report({"step": step, **values}))
    except (ValueError, FileNotFoundError, PermissionError, ImportError, TypeError) as error:
        if not is_outage(error) or isinstance(error, FileNotFoundError | PermissionError):
            kind = "TypeError: " if isinstance(error, TypeError) else ""  # a fault of ours, most likely
            ray.get(verdict.set.remote(kind + " ".join(str(error).split())))
        raise
