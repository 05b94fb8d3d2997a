"""Everything that decides the bytes of the parts, and the run record that keeps it beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from handface.pipeline.contract.sample import SCHEMA_VERSION
from handface.pipeline.contract.storage import Folder
from handface.pipeline.sources.base import SourceConfig
from handface.pipeline.stages.contact_evidence import ContactConfig
from handface.pipeline.stages.crop import CropConfig
from handface.pipeline.stages.decode import DecodeConfig
from handface.pipeline.stages.dedupe import DedupeConfig
from handface.pipeline.stages.depth import DepthConfig
from handface.pipeline.stages.detect import DetectConfig
from handface.pipeline.stages.keypoints import KeypointsConfig
from handface.pipeline.stages.nsfw import NsfwConfig
from handface.pipeline.stages.pack import PackConfig
from handface.pipeline.stages.quality import QualityConfig
from handface.pipeline.stages.read import ReadConfig

RUN = "run.json"


class ConfigMismatchError(ValueError):
    """The output folder belongs to a run with another configuration; the message names the fields."""


class RunConfig(Protocol):
    """What planning and resuming need of a run's config, whatever the run makes."""

    @property
    def unit_size(self) -> int:
        """Inputs per work unit."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values of every field."""

    def fingerprint(self) -> str:
        """Equal fingerprints and inputs give equal bytes."""


@dataclass(frozen=True, kw_only=True)
class AnnotateConfig:
    """One nested config per stage. Numbers of workers and other things that leave the bytes alone are not here."""

    unit_size: int = 128
    """Inputs per work unit, hence per part."""
    sources: SourceConfig = field(default_factory=SourceConfig)
    read: ReadConfig = field(default_factory=ReadConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    dedupe: DedupeConfig = field(default_factory=DedupeConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    nsfw: NsfwConfig = field(default_factory=NsfwConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    contact: ContactConfig = field(default_factory=ContactConfig)
    keypoints: KeypointsConfig = field(default_factory=KeypointsConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
    pack: PackConfig = field(default_factory=PackConfig)

    def __post_init__(self) -> None:
        if self.unit_size < 1:
            raise ValueError(f"unit_size is {self.unit_size}; a unit needs at least one input")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return plain

    def fingerprint(self) -> str:
        """sha256 over every field and the sample schema's version: equal fingerprints and inputs give equal bytes."""
        text = json.dumps([SCHEMA_VERSION, self.as_dict()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`. day: UTC day of the first start; samples carry it as `fetched_at`, also after a resume."""

    day: str
    inputs: tuple[str, ...]
    config: dict[str, Any]


def open_run(output: Folder, config: RunConfig, inputs: Sequence[str]) -> RunRecord:
    """Start a run in an empty folder, or join the one that is there.

    Raises ConfigMismatchError naming each field in which this run differs from the folder's, StorageError if it cannot be written.
    """
    run = RunRecord(datetime.now(UTC).date().isoformat(), tuple(inputs), config.as_dict())
    if output.exists(RUN):
        return _join(output, run)
    output.write(RUN, (json.dumps(asdict(run), indent=1, sort_keys=True) + "\n").encode())
    return run


def _join(output: Folder, run: RunRecord) -> RunRecord:
    try:
        raw = json.loads(output.read(RUN))
        saved = RunRecord(raw["day"], tuple(raw["inputs"]), raw["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigMismatchError(
            f"{output.uri}/{RUN} is not a run record ({error}); choose another output folder"
        ) from error
    before = _flat({"input": list(saved.inputs), **saved.config})
    now = _flat({"input": list(run.inputs), **run.config})
    differing = [name for name in sorted(before | now) if before.get(name) != now.get(name)]
    if differing:
        changes = ", ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in differing)
        raise ConfigMismatchError(
            f"{output.uri} holds a run with another configuration: {changes}. Choose another output folder"
        )
    return saved


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
