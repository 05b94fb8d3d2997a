"""Timings and errors of a run, kept beside the parts and never in them: `stats/<start>-<n>.jsonl`, a line per unit."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from handface.pipeline.contract.storage import Folder

if TYPE_CHECKING:
    from handface.pipeline.engine.worker import UnitResult

log = logging.getLogger(__name__)
STATS = "stats"
_LINES, _SECONDS = 1000, 20.0  # lines per file; how often the open file is published


@dataclass
class StatsLog:
    """Collects a start's unit results; holds one file's worth. Trouble with it is logged and does not stop the run."""

    output: Folder
    start: str  # tells the files of one start from those of others
    files: int = 0
    lines: list[str] = field(default_factory=list)
    published: float = field(default_factory=time.monotonic)

    def add(self, result: UnitResult) -> None:
        """Note how a unit ended."""
        line = {name: value for name, value in asdict(result).items() if name != "manifest" and value}
        self.lines.append(json.dumps(line, sort_keys=True) + "\n")
        if len(self.lines) >= _LINES:
            self.publish()
            self.files, self.lines = self.files + 1, []
        elif time.monotonic() - self.published > _SECONDS:
            self.publish()

    def publish(self) -> None:
        """Write the open file as it is now."""
        self.published = time.monotonic()
        if not self.lines:
            return
        try:
            self.output.write(f"{STATS}/{self.start}-{self.files:05d}.jsonl", "".join(self.lines).encode())
        except OSError as error:
            log.warning("timings are not kept: %s", error)
