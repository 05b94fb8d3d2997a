"""Films the subjects of a synthetic Decaf, in this process or one per Ray task."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handface.pipeline.synthesis.studio.capture import finished, subject_name, write_shared, write_subject
from handface.pipeline.synthesis.studio.dataset import DatasetConfig


@dataclass(frozen=True)
class Filmed:
    """What became of a subject. error: one line, empty if its files are in place.  trace: where it came from."""

    subject: str
    frames: int
    error: str = ""
    trace: str = ""


def pending(root: Path, config: DatasetConfig) -> list[int]:
    """Numbers of the subjects that are not finished, after writing what all share. Raises DecafError as `finished` does."""
    root.mkdir(parents=True, exist_ok=True)
    done = finished(root, config)
    write_shared(root, config)
    return [n for n in range(1, config.capture.subjects + 1) if subject_name(n) not in done]


def film(root: Path, config: DatasetConfig, numbers: list[int], *, workers: int, local: bool) -> Iterator[Filmed]:
    """Film the subjects of these numbers; yields each as it ends. One that fails does not stop the others.

    workers: subjects at a time, 0 for one per CPU of the cluster.  root: on a Ray cluster, on a file system that all nodes see.
    """
    if local or not numbers:
        yield from (film_one(root, config, number) for number in numbers)
        return
    import ray

    from handface.pipeline.engine.cluster import cluster

    with cluster(workers) as total:
        task = ray.remote(num_cpus=1)(film_one)
        left = list(numbers)
        running: dict[Any, int] = {}  # by object reference
        while left or running:
            while left and len(running) < (workers or int(total["CPU"])):
                number = left.pop(0)
                running[task.remote(root, config, number)] = number
            (ended,), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(ended)
            try:
                yield ray.get(ended)
            except ray.exceptions.RayError as error:  # its worker died again and again
                yield Filmed(subject_name(number), config.frames_of(number), str(error).splitlines()[0])


def film_one(root: Path, config: DatasetConfig, number: int) -> Filmed:
    """Film one subject; whatever goes wrong is told in the result."""
    from handface.pipeline.engine.worker import tune_process

    tune_process()
    name, frames = subject_name(number), config.frames_of(number)
    try:
        return Filmed(name, write_subject(root, config, number))
    except Exception as error:  # reported with the subject's name; the others go on
        return Filmed(name, frames, f"{type(error).__name__}: {error}", traceback.format_exc())
