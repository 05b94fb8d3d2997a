"""What a run was started with, kept beside its parts, so that the same command joins it and another is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from handface.pipeline.contract.config import differences
from handface.pipeline.contract.storage import Folder

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


@dataclass(frozen=True)
class RunRecord:
    """The content of `run.json`. day: UTC day of the first start; samples carry it as `fetched_at`, also after a resume."""

    day: str
    inputs: tuple[str, ...]
    config: dict[str, Any]


def open_run(output: Folder, config: RunConfig, inputs: Sequence[str], *, planned: bool = True) -> RunRecord:
    """Start a run in an empty folder, or join the one that is there.

    planned: whether the folder has a plan; a run that never got one binds nobody.

    Raises ConfigMismatchError naming each field in which this run differs from the folder's, StorageError if it cannot be written.
    """
    run = RunRecord(datetime.now(UTC).date().isoformat(), tuple(inputs), config.as_dict())
    if planned and output.exists(RUN):
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
    changes = differences({"input": list(saved.inputs), **saved.config}, {"input": list(run.inputs), **run.config})
    if changes:
        raise ConfigMismatchError(
            f"{output.uri} holds a run with another configuration: {', '.join(changes)}. Choose another output folder"
        )
    return saved
