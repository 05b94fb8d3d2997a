"""Adds parts up to a funnel: how many inputs enter and leave each stage, and why the others stay behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from handface.pipeline.contract.parts import Manifest


@dataclass(frozen=True)
class FunnelRow:
    """One stage of the funnel; entered = passed + rejected + ended.

    Attributes:
        reasons: Inputs turned away, by reason, most frequent first.
        ended: Inputs that did what they were for without a sample (pages read for links), by reason.
    """

    stage: str
    entered: int
    passed: int
    reasons: dict[str, int]
    ended: dict[str, int] = field(default_factory=dict)


@dataclass
class Funnel:
    """Running totals over parts; the order in which they come does not matter."""

    parts: int = 0
    inputs: int = 0
    kept: int = 0
    stages: tuple[str, ...] = ()
    rejected: dict[str, Counter[str]] = field(default_factory=dict)
    ended: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, manifest: Manifest) -> None:
        """Count one part in."""
        self.parts += 1
        self.inputs += manifest.inputs
        self.kept += manifest.kept
        self.stages = self.stages or manifest.stages
        for stage, reasons in manifest.rejected.items():
            self.rejected.setdefault(stage, Counter()).update(reasons)
        for stage, reasons in manifest.ended.items():
            self.ended.setdefault(stage, Counter()).update(reasons)

    def rows(self) -> list[FunnelRow]:
        """One row per stage in the order records pass them; the last row's `passed` equals `kept`."""
        rows = []
        left = self.inputs
        for stage in dict.fromkeys((*self.stages, *self.rejected, *self.ended)):
            reasons, ended = self.rejected.get(stage, Counter()), self.ended.get(stage, Counter())
            passed = left - reasons.total() - ended.total()
            rows.append(FunnelRow(stage, left, passed, dict(reasons.most_common()), dict(ended.most_common())))
            left = passed
        return rows
