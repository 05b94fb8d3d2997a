"""What a sample's provenance says about it: subject, camera, side of the hand, how sure the filter was of contact, who placed its points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from handface.pipeline.contract.sample import LEFT, SampleError, SampleMeta, decode_labels, decode_meta
from handface.pipeline.contract.shards import find_shards, read_shard
from handface.trainers.batch import Batch

CONTACT_SCORE = 0.5
"""The hand-face filter's score from which a picture counts as one of contact."""


@dataclass(frozen=True)
class PhotoView:
    """The photo that a crop was cut from, in sides of the crop. longer: its longer side.  centre: x, y of its middle in the crop."""

    longer: float
    centre: tuple[float, float]


@dataclass(frozen=True)
class Facts:
    """One sample. subject: who is in it, as far as anyone knows.  contact: the filter's score, None without one.

    columns: further columns of its source, such as camera, region, grip.  detected: its 2D points are a detector's, not a person's or
    a scene's.  view: of the whole photo, where that is known.
    """

    dataset: str
    subject: str
    side: str
    contact: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    detected: bool = False
    view: PhotoView | None = None

    def value(self, name: str) -> str:
        """`dataset`, `subject`, `side` or a column's value; "" where it has none."""
        if name in ("dataset", "subject", "side"):
            return str(getattr(self, name))
        return self.columns.get(name, "")


def sample_name(dataset: str, key: str) -> str:
    """What a sample is called in results: one that is in two data sets is two."""
    return f"{dataset}/{key}"


def key_of(name: str) -> str:
    """The key in a `sample_name`; keys may hold slashes, names of data sets none."""
    return name.partition("/")[2]


def name_samples(batch: Batch, datasets: Sequence[str]) -> tuple[str, ...]:
    """`sample_name` of every sample of a batch. datasets: names of those that its `origins` count."""
    return tuple(sample_name(datasets[o], key) for o, key in zip(batch.origins.tolist(), batch.keys, strict=True))


def read_facts(shards: Mapping[str, Iterable[str]], progress: Callable[[], None] = lambda: None) -> dict[str, Facts]:
    """Facts of every sample, by `sample_name`. shards: dataset name -> its shards, folders or globs. Samples that do not parse have none.

    Raises FileNotFoundError or ShardError.
    """
    found: dict[str, Facts] = {}
    for dataset, arguments in shards.items():
        for uri in find_shards(arguments):
            for key, members in read_shard(uri):
                try:
                    meta, labels = decode_meta(members["json"]), decode_labels(members["safetensors"])
                except (SampleError, KeyError):
                    continue  # the loader passes it over, too, and counts it
                side = "" if labels.hand_side is None or not len(labels.hand_side) else _side(int(labels.hand_side[0]))
                score = None if meta.scores is None else meta.scores.contact
                detected = any(record.task.endswith("_keypoints") for record in meta.annotators)
                found[sample_name(dataset, key)] = Facts(
                    dataset, _subject(meta), side, score, meta.source.columns, detected, _view(meta)
                )
            progress()
    return found


def _side(value: int) -> str:
    return "left" if value == LEFT else "right"


def _view(meta: SampleMeta) -> PhotoView:
    crop = meta.crop
    to_crop = np.linalg.inv(np.array(crop.affine))
    x, y, _ = to_crop @ [(crop.original_width - 1) / 2, (crop.original_height - 1) / 2, 1]
    longer = max(crop.original_width, crop.original_height) * to_crop[0, 0] / crop.size
    return PhotoView(float(longer), (float((x + 0.5) / crop.size), float((y + 0.5) / crop.size)))


def _subject(meta: SampleMeta) -> str:
    """The studio's subject, or the identity that a list names; else each original picture is its own."""
    columns = meta.source.columns
    return columns.get("subject") or columns.get("identity") or meta.source.sha256
