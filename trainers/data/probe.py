"""Looks into data sets before a run: which bodies their 3D labels are of, and whether those labels can be used at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from handface.model.bodies.load import FREE
from handface.pipeline.contract.sample import Labels, SampleError, decode_labels
from handface.trainers.data.bodies import DECAF_SUFFIX, BodyPart
from handface.trainers.data.config import DataConfig, DatasetConfig
from handface.trainers.data.errors import DataError
from handface.trainers.data.scene import read_scene
from handface.trainers.data.shards.store import Reader, Table, open_dataset

_MOST = 512  # samples of a set to look at for a 3D label
_FITTED = "they are fitted to 2D points, which the set takes only with `fitted: true`"


def with_bodies(config: DataConfig) -> DataConfig:
    """The same data with hand and head named: those given, else those that the sets' 3D labels name, else the free ones.

    Raises:
        DataError: A set that is not weak has no 3D label that can be used; the message says which body is missing.
        BodyFileError: A body's file cannot be read.
    """
    tables = [open_dataset(dataset, config.index_folder, config.patience) for dataset in config.datasets]
    pairs = list(zip(config.datasets, tables, strict=True))
    strong = [pair for pair in pairs if not pair[0].weak]
    reader = Reader(config.patience)
    # a weak set gives fitted labels at most: it names the bodies where no other set does
    naming = strong or [pair for pair in pairs if pair[0].fitted]
    named = {dataset.name: _first_names(dataset, table, reader) for dataset, table in naming}
    hand = config.hand_body or _agreed(config, "hand", {name: found[0] for name, found in named.items() if found})
    head = config.head_body or _agreed(config, "head", {name: found[1] for name, found in named.items() if found})
    parts = BodyPart("hand", hand), BodyPart("head", head)
    for dataset, table in strong:
        _require_labels(dataset, table, reader, *parts)
    return replace(config, hand_body=hand, head_body=head)


def sample_labels(table: Table, reader: Reader, most: int) -> Iterator[Labels]:
    """Labels of at most so many samples, spread evenly over a set; unreadable ones are left out."""
    for row in np.unique(np.linspace(0, len(table) - 1, min(most, len(table))).astype(np.int64)).tolist():
        try:
            yield decode_labels(reader.read(table, row)[1]["safetensors"])
        except (SampleError, KeyError):
            continue


def _first_names(dataset: DatasetConfig, table: Table, reader: Reader) -> tuple[str, str] | None:
    """Names of hand and head in the first 3D labels that the set takes; None if there are none."""
    for labels in sample_labels(table, reader, _MOST):
        if labels.hand_model and labels.head_model and dataset.takes_3d(labels):
            return labels.hand_model, labels.head_model.removesuffix(DECAF_SUFFIX)
    return None


def _agreed(config: DataConfig, part: str, names: dict[str, str]) -> str:
    """The free body if the sets name it or none at all. Raises DataError for any other, whose file must be given."""
    free = f"free-{part}"
    if len(set(names.values())) > 1:
        listed = ", ".join(f"{name}: {body}" for name, body in names.items())
        raise DataError(
            f"the data sets' 3D labels are of different {part} models ({listed}); a network has one. Train on them apart, give"
            f" those of another body with --wild, or name the one to use with --{part}-model"
        )
    body = next(iter(names.values()), free)
    if body in FREE:
        return body
    known = next(iter(names))
    raise DataError(
        f"data set {known}: its 3D labels are of the {part} model {body!r}; give its file with --{part}-model FILE.npz"
        " (`handface bodies import` makes it of the licensed file), or give the set with --wild to train on its 2D labels alone"
    )


def _require_labels(dataset: DatasetConfig, table: Table, reader: Reader, hand: BodyPart, head: BodyPart) -> None:
    """Raise DataError if none of the set's labels can be used in 3D."""
    looked, reasons = 0, dict[str, None]()
    for labels in sample_labels(table, reader, _MOST):
        looked += 1
        if not dataset.takes_3d(labels):
            reasons |= {_FITTED: None}
            continue
        try:
            scene, remarks = read_scene(labels, hand, head, mirrored=False)
        except SampleError as error:
            remarks, scene = (str(error),), None
        if scene is not None and scene.hand is not None:
            return
        reasons |= dict.fromkeys(remarks)
    if not looked:
        # nothing can be read: the loader says so better
        return
    why = "; ".join(reasons) or "they have none"
    bodies = reasons.keys() - {_FITTED}
    advice = "give the file of that body with --hand-model or --head-model, or " if bodies else ""
    raise DataError(
        f"data set {dataset.name}: none of {looked} samples gives a 3D label ({why}); {advice}give the set with --wild"
        " (`weak` in the file) to train on its 2D labels alone"
    )
