"""What travels through the pipeline: one record per input, a reason when it is turned away, and the stage protocol."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

    from handface.pipeline.annotators.base import Face, Hand
    from handface.pipeline.contract.sample import AnnotatorRecord, Sample, Scores


class Reason(StrEnum):
    """Why an input was not kept. The value is what parts, reports and `--retry-failed` show."""

    # reading
    NOT_FOUND = "not_found"
    UNREADABLE = "unreadable"
    UNKNOWN_SCHEME = "unknown_scheme"
    MISSING_COLUMN = "missing_column"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    HTTP_ERROR = "http_error"
    NETWORK = "network"
    # asking the web
    BAD_URL = "bad_url"  # never asked for: another scheme, user info, odd host
    BAD_ADDRESS = "bad_address"  # leads to a private or otherwise closed address
    DNS = "dns"
    TLS = "tls"
    HTTP_403 = "http_403"  # also 401 and 451
    HTTP_404 = "http_404"  # also 410
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    REDIRECTS = "redirects"
    MOVED = "moved"  # to another owner's host, which asks in the next round
    ROBOTS = "robots"
    OPTOUT = "optout"
    BOMB = "bomb"  # a compressed transfer that grows out of proportion
    HOST_BUDGET = "host_budget"  # the host has had its time
    PAGE = "page"  # a page or sitemap, read for its links
    # decoding
    NOT_IMAGE = "not_image"
    CORRUPT = "corrupt"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SMALL = "too_small"
    DUPLICATE = "duplicate"
    EXCLUDED = "excluded"
    # looking
    NOT_A_PHOTO = "not_a_photo"
    BLURRED = "blurred"
    NSFW = "nsfw"
    NO_FACE = "no_face"
    FACE_TOO_SMALL = "face_too_small"
    FACE_CUT = "face_cut"
    TOO_MANY_PEOPLE = "too_many_people"
    NO_HAND = "no_hand"
    HAND_FAR = "hand_far"
    HAND_OCCLUDES = "hand_occludes"
    DETECTOR_FAILED = "detector_failed"
    # synthesis
    NO_SCENE = "no_scene"


@dataclass(frozen=True)
class SourceItem:
    """One input as a source lists it; small, picklable, and enough to read the bytes later on any worker.

    `uri` names the file, tar, video or URL; `member` the tar member or the video time (`t=1.500`) inside it;
    `offset`/`size` let a tar member be read without scanning; `columns` keeps a list's extra columns (licence, author, page).
    """

    uri: str
    member: str | None = None
    offset: int | None = None
    size: int | None = None
    columns: tuple[tuple[str, str], ...] = ()
    problem: Reason | None = None  # a list row that names no readable input still ends in a part, with this reason
    detail: str = ""

    @property
    def id(self) -> str:
        """First 16 hex of the sha256 of where the input is (uri and member)."""
        return hashlib.sha256(json.dumps([self.uri, self.member]).encode()).hexdigest()[:16]

    @property
    def origin(self) -> str:
        """Where on the web it is from: the `url` column that crawls write beside an image in a tar; otherwise the uri."""
        url = self.column("url") if self.offset is not None else None
        return url if url and url.startswith(("http://", "https://")) else self.uri

    @property
    def name(self) -> str:
        """How people see it: the uri, and the member after a `#`."""
        return self.uri if self.member is None else f"{self.uri}#{self.member}"

    def column(self, name: str) -> str | None:
        """The value of an extra column, or None."""
        return dict(self.columns).get(name)


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
