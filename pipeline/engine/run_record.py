"""What a run was started with, kept beside its parts, so that the same command joins it and another is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from handface.pipeline.contract.config import differences
from handface.pipeline.contract.parts import CRAWL
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.libraries import differing, distributions

RUN = "run.json"


class ConfigMismatchError(ValueError):
    """The output folder belongs to a run with another configuration; the message names the fields."""


class RunConfig(Protocol):
    """What planning and resuming need of a run's config, whatever the run makes; `BaseConfig` has the methods."""

    @property
    def unit_size(self) -> int:
        """Inputs per work unit."""

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values of every field."""

    def digest(self, *versions: object) -> str:
        """Hex sha256 over every field and the versions."""


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`.

    Attributes:
        day: UTC day of the first start; samples carry it as `fetched_at`, also after a resume.
        inputs: What the user named.
        config: Every field.
        stages: {stage: version}.
        libraries: {library: version} of what decides the pixels; empty in runs of before these were kept.
    """

    day: str
    inputs: tuple[str, ...]
    config: dict[str, Any]
    stages: dict[str, int]
    libraries: dict[str, str] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What must be equal for two starts to be of one run."""
        return {"input": list(self.inputs), **self.config, "version": self.stages}


def first_day(output: Folder, *, planned: bool) -> str:
    """The UTC day on which the folder's run was started first; today if there is none. Raises ConfigMismatchError."""
    saved = _read(output) if planned else None
    return datetime.now(UTC).date().isoformat() if saved is None else saved.day


def open_run(output: Folder, run: RunRecord, *, planned: bool) -> None:
    """Start a run in an empty folder, or join the one that is there.

    planned: whether the folder has a plan; a run that never got one binds nobody.

    Raises ConfigMismatchError naming each field in which this run differs from the folder's, StorageError if it cannot be written.
    """
    if not check_same(output, run, planned=planned):
        output.write(RUN, (json.dumps(asdict(run), indent=1, sort_keys=True) + "\n").encode())


def require_kind(output: Folder, *, crawl: bool) -> None:
    """Raise ConfigMismatchError if the folder holds parts where a crawl is to go, or a crawl where parts are to go."""
    if crawl and output.exists(RUN):
        raise ConfigMismatchError(
            f"{output.uri} holds the parts of another command. Choose another output folder for the crawl"
        )
    if not crawl and output.exists(CRAWL):
        raise ConfigMismatchError(f"{output.uri} holds a crawl. Name it as --input, and choose another output folder")


def check_same(output: Folder, run: RunRecord, *, planned: bool) -> bool:
    """Whether the folder has a planned run, which then is this one. Raises ConfigMismatchError naming each field that differs."""
    saved = _read(output) if planned else None
    if saved is None:
        return False
    if changes := differences(saved.identity(), run.identity()):
        raise ConfigMismatchError(
            f"{output.uri} holds a run with another configuration: {', '.join(changes)}. Choose another output folder"
        )
    _check_libraries(output, saved.libraries, run.libraries)
    return True


def _check_libraries(output: Folder, saved: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise ConfigMismatchError if a library that decides pixels is not the one that the run was started with."""
    if not saved:
        return
    if changed := differing(saved, now):
        told = ", ".join(f"{name} was {before}, is {here}" for name, (before, here) in changed.items())
        wanted = " ".join(f"'{distributions(name)[0]}=={saved[name]}'" for name in changed if name in saved)
        advice = f"pip install {wanted} to go on with it, or choose" if wanted else "Choose"
        raise ConfigMismatchError(
            f"{output.uri} holds a run made with other libraries: {told}. The same photo could get another key or score; {advice} another output folder"
        )


def _read(output: Folder) -> RunRecord | None:
    if not output.exists(RUN):
        return None
    try:
        raw = json.loads(output.read(RUN))
        libraries = dict(raw.get("libraries") or {})
        return RunRecord(raw["day"], tuple(raw["inputs"]), raw["config"], raw["stages"], libraries)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigMismatchError(
            f"{output.uri}/{RUN} is not a run record of this version ({error!r}); choose another output folder"
        ) from error
