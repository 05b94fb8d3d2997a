"""What travels through the pipeline: one record per input, and a reason when its way ends early."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handface.pipeline.contract.inputs import Reason, SourceItem

if TYPE_CHECKING:
    import numpy as np

    from handface.pipeline.contract.detections import Face, Hand
    from handface.pipeline.contract.sample import AnnotatorRecord, Sample, Scores
    from handface.pipeline.engine.spool import Spooled


@dataclass(frozen=True)
class Packed:
    """What a part keeps of an input that is no labelled sample yet: a key and its members, {extension: bytes}.

    The bytes may wait on disk, in a `Spool` (engine/spool.py).
    """

    key: str
    members: Mapping[str, bytes | Spooled]


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
        """End this record's way with a counted reason; `detail` is for people. Frees what the record holds.

        A reason that is an outcome (`Reason.is_outcome`) ends it well: the input did what it was for.
        """
        self.reason, self.detail = reason, detail
        self.data = self.image = self.crop = self.skin = self.packed = None
        self.depth_maps.clear()

    def snapshot(self) -> dict[str, Any]:
        """The fields as they are, for `restore`; what containers hold is shared, the containers are not."""
        return {name: copy.copy(value) if type(value) in (list, dict) else value for name, value in vars(self).items()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Be as at the snapshot, which stays usable."""
        vars(self).update({k: copy.copy(v) if type(v) in (list, dict) else v for k, v in snapshot.items()})
