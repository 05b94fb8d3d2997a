"""Which data, in which proportions, and how pictures are varied."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Literal

from handface.trainers.data.errors import DataError

if TYPE_CHECKING:
    from handface.pipeline.contract.sample import Labels

ColourOperation = Literal["blur", "jitter", "posterise", "sharpness", "autocontrast", "equalise"]
COLOUR_OPERATIONS: tuple[ColourOperation, ...] = (
    "blur",
    "jitter",
    "posterise",
    "sharpness",
    "autocontrast",
    "equalise",
)


@dataclass(frozen=True)
class DatasetConfig:
    """One set of shards and its share of the mix."""

    name: str
    """For messages and for results by data set."""
    shards: tuple[str, ...]
    """Tars, folders of them, or globs; local paths or fsspec URIs (s3://, gs://)."""
    weight: float = 1.0
    """Share of the samples drawn, relative to the other sets."""
    weak: bool = False
    """Use 2D keypoints, visibility and depth only, as of wild pictures, even where the shards hold 3D labels."""
    fitted: bool = False
    """Use 3D labels that were fitted to 2D points, each as often as its quality says, also of a weak set. Never for evaluation."""
    exclude: tuple[str, ...] = ()
    """Parquet files that list samples to leave out, in a column `key` (or `dropped`, as `handface dedupe` writes)."""
    found: tuple[str, ...] = ()
    """Lists of what the detector finds in the pictures (`handface weights points`): a network that looks at points is given those in
    place of the labels, and learns to do with what it will be given. Labels stay what they are."""
    limit: int | None = None
    """Use this many samples only: those with the smallest keys, so that a larger limit keeps a smaller one's samples."""

    def __post_init__(self) -> None:
        if not self.shards:
            raise DataError(f"data set {self.name}: names no shards")
        if not self.weight > 0:
            raise DataError(f"data set {self.name}: weight is {self.weight}; it must be positive")
        if self.limit is not None and self.limit < 1:
            raise DataError(f"data set {self.name}: limit is {self.limit}; at least 1, or leave the set out")

    def takes_3d(self, labels: Labels) -> bool:
        """Whether a sample's 3D labels, if it has any, are used: fitted and measured ones are asked for apart."""
        return self.fitted if labels.origin_3d == "fitted" else not self.weak


@dataclass(frozen=True)
class AugmentConfig:
    """How a training picture is varied; labels move with it. Zero switches a variation off."""

    scale: float = 0.25
    """Zoom by 1 +- this, uniform (the authors' option: 0.75 to 1.25)."""
    rotation: float = 30.0
    """Turn in the picture plane by up to this, degrees either way."""
    translation: float = 0.05
    """Shift by up to this share of the side."""
    flip: float = 0.5
    """Chance to mirror a picture without a hand. With a hand the side decides: a left hand is always mirrored, a right one never."""
    colour: float = 0.8
    """Chance of one colour operation."""
    colour_operations: tuple[ColourOperation, ...] = COLOUR_OPERATIONS
    """Which of them."""
    found: float = 0.75
    """Chance that a network is given the points that the detector found, where the data set has them, and not the labels."""
    backgrounds: str | None = None
    """Folder of pictures to put behind people that come with a mask."""
    background: float = 0.5
    """Chance of that."""

    def __post_init__(self) -> None:
        if not 0 <= self.scale < 1 or self.rotation < 0 or self.translation < 0:
            raise DataError("augmentation: scale is in [0, 1), rotation and translation are not negative")
        for name in ("flip", "colour", "found", "background"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"augmentation: {name} is {getattr(self, name)}; a chance is in [0, 1]")
        if unknown := set(self.colour_operations) - set(COLOUR_OPERATIONS):
            raise DataError(f"no colour operation {', '.join(sorted(unknown))}; one of {', '.join(COLOUR_OPERATIONS)}")

    @classmethod
    def none(cls) -> AugmentConfig:
        """Pictures as they are, but for left hands."""
        return cls(scale=0, rotation=0, translation=0, flip=0, colour=0, found=1, background=0)


@dataclass(frozen=True)
class DataConfig:
    """Everything that, with the position in the stream, decides a batch; and how it is read."""

    datasets: tuple[DatasetConfig, ...]
    """The mix."""
    image_size: int = 224
    """Side of the network's input, pixels."""
    batch_size: int = 32
    """Samples per batch of each rank."""
    seed: int = 0
    """Of order and augmentation."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """How pictures are varied."""
    shuffle: Literal["samples", "shards", "none"] = "samples"
    """`samples`: a full permutation in every pass. `shards`: permuted shards, samples permuted within 16 of them at a time, for
    storage on which jumping about is dear. `none`: as they lie in the shards."""
    hand_body: str | None = None
    """The hand that 3D labels must be of, as `load_body` takes it; other hands' 3D labels are left out and counted. None: a run
    takes the one that its shards name, anything else free-hand."""
    head_body: str | None = None
    """The head that 3D labels must be of, likewise."""
    depth_sources: tuple[str, ...] = ()
    """Sources of keypoint depth, the preferred first; any other, by name, if a sample has none of these."""
    bad_share: float = 0.01
    """Unreadable samples to pass over, as a share of all; more are an error. What storage refuses is tried again first."""
    patience: float = 300.0
    """Seconds for which storage that does not answer is tried again."""
    index_folder: str | None = None
    """Where tar indexes are kept; `~/.cache/handface/shards` if not given."""
    workers: int = 1
    """Processes that decode; 0 decodes in the training process."""
    prefetch: int = 4
    """Batches each worker works ahead."""

    def __post_init__(self) -> None:
        if not self.datasets:
            raise DataError("the data names no data set")
        names = [dataset.name for dataset in self.datasets]
        if len(set(names)) < len(names):
            raise DataError(f"data sets need different names, not {', '.join(names)}")
        for name, least in (("image_size", 16), ("batch_size", 1), ("seed", 0), ("workers", 0), ("prefetch", 1)):
            if getattr(self, name) < least:
                raise DataError(f"{name} is {getattr(self, name)}; at least {least}")
        if not 0 <= self.bad_share < 1:
            raise DataError(f"bad_share is {self.bad_share}; in [0, 1)")


def split_name(argument: str) -> tuple[str, str]:
    """Name, "" without one, and path of NAME=PATH or PATH. A name has no slash: s3://bucket/date=2024-01 is a path."""
    name, equals, path = argument.partition("=")
    return (name, path) if equals and "/" not in name else ("", argument)


def set_name(path: str, taken: Collection[str] = ()) -> str:
    """What a data set without a name is called: the last part of its path, numbered where that is taken."""
    name = path.rstrip("/").rpartition("/")[2] or "set"
    return name if name not in taken else next(f"{name}-{n}" for n in count(2) if f"{name}-{n}" not in taken)
