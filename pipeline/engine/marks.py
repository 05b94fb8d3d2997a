"""Finds the input that kills its worker process: a mark per unit beside the parts says what a process was doing when it died."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.stage import ATTEMPTS

MARKS = "stats/working"


class WorkerDiedError(RuntimeError):
    """A unit took its process with it as often as is allowed."""


@dataclass
class UnitMark:
    """A unit that is being worked on.

    The first death tells nothing but the unit, so from then on the mark names each batch before it is begun; the second names
    the batch, whose inputs then go one by one; the third names the input, which is found guilty and left out.

    Attributes:
        deaths: Processes that died while working on the unit, since the last input was found guilty.
        span: First input and end of what was being worked on, as far as it is told.
        suspects: First input and end of the batch in which a process died.
        guilty: Inputs that killed their process when they were alone.
    """

    output: Folder
    name: str
    stages: tuple[str, ...]
    deaths: int = 0
    span: tuple[int, int] | None = None
    suspects: tuple[int, int] | None = None
    guilty: list[int] = field(default_factory=list)

    @classmethod
    def begin(cls, output: Folder, name: str, stages: tuple[str, ...]) -> UnitMark:
        """Start or go on with a unit. Raises WorkerDiedError if it must be given up, StorageError."""
        mark = cls(output, name, stages)
        if not output.exists(mark.path):
            mark._write()
            return mark
        for field_name, value in json.loads(output.read(mark.path)).items():
            setattr(mark, field_name, value)
        mark.deaths += 1
        if mark.span is not None:
            start, end = mark.span
            seen_before = mark.suspects is not None and mark.suspects[0] <= start and end <= mark.suspects[1]
            if end - start == 1 and seen_before:
                mark.guilty, mark.suspects, mark.deaths = [*mark.guilty, start], None, 0
            else:
                mark.suspects = start, end
        elif mark.deaths >= ATTEMPTS:
            mark.remove()
            raise WorkerDiedError(f"{mark.verdict()}, not while working on any one input")
        if len(mark.guilty) > ATTEMPTS:
            mark.remove()
            raise WorkerDiedError(f"{mark.verdict()}, each time with another input")
        mark.span = None
        mark._write()
        return mark

    @property
    def path(self) -> str:
        """Where it lies below the output."""
        return f"{MARKS}/{self.name}"

    def verdict(self) -> str:
        """What people are told."""
        return (
            f"its worker process died {ATTEMPTS} times (killed, out of memory, hung, or a crash in native code) in stages "
            + ", ".join(self.stages)
        )

    def narrow(self, spans: Sequence[range]) -> Iterator[range]:
        """The batches to work on, naming each in the mark once a process has died."""
        for span in spans:
            suspect = self.suspects is not None and span.start < self.suspects[1] and self.suspects[0] < span.stop
            for piece in [range(index, index + 1) for index in span] if suspect and len(span) > 1 else [span]:
                if self.deaths:
                    self.span = piece.start, piece.stop
                    self._write()
                yield piece
        if self.deaths:
            self.span = None
            self._write()

    def remove(self) -> None:
        """The unit has ended."""
        self.output.remove(self.path)

    def _write(self) -> None:
        told = {name: value for name, value in asdict(self).items() if name in ("deaths", "span", "suspects", "guilty")}
        self.output.write(self.path, json.dumps(told).encode())
