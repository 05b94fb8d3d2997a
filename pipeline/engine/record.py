"""What travels through the pipeline: one record per input, a reason when it is turned away, and the stage protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from handface.pipeline.contract.inputs import Reason, SourceItem

if TYPE_CHECKING:
    import numpy as np

    from handface.pipeline.contract.detections import Face, Hand
    from handface.pipeline.contract.sample import AnnotatorRecord, Sample, Scores


@dataclass(frozen=True)
class Packed:
    """What a part keeps of an input that is no labelled sample yet: a key and its members, {extension: bytes}."""

    key: str
    members: dict[str, bytes]


@dataclass
class Record:
    """One input on its way through the stages; stages fill fields in, `reject` ends the way.

    data: encoded bytes as read, dropped after decode.  image: (H, W, 3) uint8 RGB, upright, dropped after the crop.
    crop: (S, S, 3) uint8 RGB.  affine: (3, 3) float64 crop pixel -> original pixel (upright).
    """

    item: SourceItem
    data: bytes | None = None
    image: np.ndarray | None = None
    original_size: tuple[int, int] | None = None  # width, height, upright
    sha256: str | None = None
    phash: str | None = None
    faces: list[Face] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)
    face: Face | None = None  # the chosen person's
    person_hands: list[Hand] = field(default_factory=list)  # the chosen person's, nearest to the face first
    skin: np.ndarray | None = None  # (H, W) uint8 class map of the segmenter, where it ran
    scores: Scores | None = None
    crop: np.ndarray | None = None
    affine: np.ndarray | None = None
    depth_maps: dict[str, np.ndarray] = field(default_factory=dict)  # source -> (S, S) float32 over the crop
    keypoint_depth: dict[str, Any] = field(default_factory=dict)  # source -> sample.KeypointDepth
    evidence: dict[str, str] = field(default_factory=dict)  # consent and fetch evidence kept with the sample
    annotators: list[AnnotatorRecord] = field(default_factory=list)  # of every network that looked at it
    sample: Sample | None = None
    packed: Packed | None = None  # instead of a sample: a crawled original
    found: list[SourceItem] = field(default_factory=list)  # further inputs that this one led to, for a later round
    reason: Reason | None = None
    detail: str = ""
    stage: str = ""  # the stage that rejected it

    @property
    def alive(self) -> bool:
        """Whether no stage has turned the record away."""
        return self.reason is None

    def reject(self, reason: Reason, detail: str = "") -> None:
        """End this record's way with a counted reason; `detail` is for people. Frees what the record holds."""
        self.reason, self.detail = reason, detail
        self.data = self.image = self.crop = self.skin = self.packed = None
        self.depth_maps.clear()


@dataclass(frozen=True)
class Resources:
    """What one instance of a stage needs, in Ray's units. Neighbouring stages with equal resources share an actor."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0


@runtime_checkable
class Stage(Protocol):
    """A step of the pipeline: takes live records, fills fields in or rejects, returns nothing (records are mutated).

    Construction must be cheap and picklable; models are loaded in `setup`, once per process.
    """

    name: str
    resources: Resources

    def setup(self) -> None:
        """Load what is heavy (models); called once in the process that will run the stage."""

    def start_unit(self) -> None:
        """Forget whatever was remembered of the unit before, so that units stay independent of each other."""

    def __call__(self, batch: Sequence[Record]) -> None:
        """Work on the live records of one batch in place."""


def run_stages(stages: Sequence[Stage], batch: Sequence[Record]) -> Iterator[tuple[str, float]]:
    """Pass a batch through stages in order, each seeing only live records; yields (stage name, seconds) as it goes."""
    import time

    for stage in stages:
        live = [r for r in batch if r.alive]
        if not live:
            return
        start = time.perf_counter()
        stage(live)
        for record in live:
            if not record.alive:
                record.stage = stage.name
        yield stage.name, time.perf_counter() - start
