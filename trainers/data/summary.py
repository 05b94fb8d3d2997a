"""What a run's data hold and how often each set is drawn, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from handface.pipeline.contract.sample import Labels, SampleError
from handface.trainers.data.bodies import BodyPart
from handface.trainers.data.config import DataConfig, DatasetConfig
from handface.trainers.data.loader import make_loader
from handface.trainers.data.probe import sample_labels, with_bodies
from handface.trainers.data.scene import read_scene
from handface.trainers.data.shards.store import Reader, open_dataset

_MOST = 2000  # samples of a set whose labels are counted; of larger sets the counts are scaled up


@dataclass(frozen=True)
class SetSummary:
    """One data set.

    Attributes:
        name: As in the configuration.
        samples: How many it has.
        mesh, contact, depth, fitted: Samples with 3D labels that this run uses, with contact, with depth at keypoints, and whose
            3D labels were fitted to the picture instead of measured.
        exact: Whether these were counted over all samples.
        share: Of the samples of a step, 0..1; 0 for a validation set.
        steps: In which every sample is drawn once; 0 likewise.
        shards: Where it lies.
    """

    name: str
    samples: int
    mesh: int
    contact: int
    depth: int
    fitted: int
    exact: bool
    share: float
    steps: float
    shards: str


def summarise_data(config: DataConfig, accumulate: int = 1, world: int = 1) -> list[SetSummary]:
    """A summary of every set of the mix. Raises as `make_loader`, and DataError as `with_bodies`."""
    config = with_bodies(config)
    total, drawn = sum(dataset.weight for dataset in config.datasets), config.batch_size * accumulate * world
    return [summarise_set(dataset, config, dataset.weight / total, drawn) for dataset in config.datasets]


def summarise_set(dataset: DatasetConfig, config: DataConfig, share: float = 0.0, drawn: int = 0) -> SetSummary:
    """A summary of one set. config: with the bodies named.  share, drawn: of the samples of a step, and their number; 0: it is not trained on."""
    assert config.hand_body is not None and config.head_body is not None
    hand, head = BodyPart("hand", config.hand_body), BodyPart("head", config.head_body)
    table = open_dataset(dataset, config.index_folder, config.patience)
    labels = list(sample_labels(table, Reader(config.patience), _MOST))
    scale = len(table) / max(1, len(labels))
    taken = [one for one in labels if dataset.takes_3d(one)]
    usable = [one for one in taken if _has_mesh(one, hand, head)]
    counts = (
        len(usable),
        sum(one.hand_contact is not None for one in taken),
        sum(bool(one.keypoint_depth) for one in labels),
        sum(one.origin_3d == "fitted" for one in usable),
    )
    mesh, contact, depth, fitted = (round(count * scale) for count in counts)
    exact = len(labels) == len(table)
    steps = len(table) / (share * drawn) if share else 0.0
    where = " ".join(dataset.shards)
    return SetSummary(dataset.name, len(table), mesh, contact, depth, fitted, exact, share, steps, where)


def print_summary(
    config: DataConfig, validation: Sequence[DatasetConfig], accumulate: int, picture: Path | None
) -> None:
    """Print the summary as a table, validation sets last, and draw the first batch with all its labels into a file, if one is named."""
    from PIL import Image

    from handface.trainers.data.sheet import contact_sheet

    config = with_bodies(config)
    print(f"bodies: {config.hand_body}, {config.head_body}")
    print(
        f"{'data set':<24}{'samples':>9}{'3D':>9}{'contact':>9}{'depth':>9}{'fitted':>9}{'of a step':>11}{'steps/pass':>12}  shards"
    )
    held = [summarise_set(replace(dataset, fitted=False), config) for dataset in validation]  # as they are validated on
    for one in (*summarise_data(config, accumulate), *held):
        about = "" if one.exact else "~"
        counts = "".join(f"{about + format(count, ','):>9}" for count in (one.mesh, one.contact, one.depth, one.fitted))
        drawn = f"{one.share:>11.1%}{one.steps:>12,.1f}" if one.share else f"{'validation':>23}"
        print(f"{one.name:<24}{one.samples:>9,}{counts}{drawn}  {one.shards}")
    loader = make_loader(replace(config, batch_size=min(config.batch_size, 16), workers=0), pin_memory=False)
    batch = next(iter(loader))
    for remark, count in loader.remarks.items():
        print(f"left out {count} times: {remark}")
    if picture is not None:
        sheet = contact_sheet(batch, loader.names, str(config.hand_body), str(config.head_body))
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(picture)
        print(f"first batch drawn: {picture}")


def _has_mesh(labels: Labels, hand: BodyPart, head: BodyPart) -> bool:
    try:
        return read_scene(labels, hand, head, mirrored=False)[0].hand is not None
    except SampleError:
        return False
