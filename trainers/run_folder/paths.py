"""Paths that mean the same in every process, whatever folder it sits in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from handface.model.bodies.load import FREE
from handface.model.weights.named import EMBEDDED
from handface.pipeline.contract.storage import absolute
from handface.trainers.config import PriorsRun, TrainConfig
from handface.trainers.data.config import DatasetConfig
from handface.trainers.priors import PriorSource


def absolute_paths(config: TrainConfig) -> TrainConfig:
    """The same run with every local path made absolute; URIs and names of what ships with the package stay."""
    data, augment = config.data, config.data.augment
    data = replace(
        data,
        datasets=tuple(_dataset(dataset) for dataset in data.datasets),
        hand_body=_body(data.hand_body),
        head_body=_body(data.head_body),
        augment=replace(augment, backgrounds=_optional(augment.backgrounds)),
        index_folder=_optional(data.index_folder),
    )
    init = config.init
    if init is not None and (Path(init).is_dir() or not (EMBEDDED / init).is_dir()):
        init = absolute(init)
    return replace(
        config,
        data=data,
        validation=tuple(_dataset(dataset) for dataset in config.validation),
        output=absolute(config.output),
        init=init,
        priors=None if config.priors is None else _priors(config.priors),
    )


def _dataset(dataset: DatasetConfig) -> DatasetConfig:
    shards, exclude, found = (tuple(map(absolute, paths)) for paths in (dataset.shards, dataset.exclude, dataset.found))
    return replace(dataset, shards=shards, exclude=exclude, found=found)


def _priors(priors: PriorsRun) -> PriorsRun:
    def sources(of: tuple[PriorSource, ...]) -> tuple[PriorSource, ...]:
        return tuple(replace(source, path=absolute(source.path)) for source in of)

    return replace(priors, real=replace(priors.real, hand=sources(priors.real.hand), head=sources(priors.real.head)))


def _body(body: str | None) -> str | None:
    return body if body in FREE else _optional(body)


def _optional(path: str | None) -> str | None:
    return None if path is None else absolute(path)
