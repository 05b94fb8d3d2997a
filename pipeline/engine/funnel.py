"""Adds parts up to a funnel: how many inputs enter and leave each stage, and why the others stay behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from handface.pipeline.contract.parts import Manifest


@dataclass(frozen=True)
class FunnelRow:
    """One stage of the funnel; reasons are sorted, most frequent first."""

    stage: str
    entered: int
    passed: int
    reasons: dict[str, int]


@dataclass
class Funnel:
    """Running totals over parts; the order in which they come does not matter."""

    parts: int = 0
    inputs: int = 0
    kept: int = 0
    stages: tuple[str, ...] = ()
    rejected: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, manifest: Manifest) -> None:
        """Count one part in."""
        self.parts += 1
        self.inputs += manifest.inputs
        self.kept += manifest.kept
        self.stages = self.stages or manifest.stages
        for stage, reasons in manifest.rejected.items():
            self.rejected.setdefault(stage, Counter()).update(reasons)

    def rows(self) -> list[FunnelRow]:
        """One row per stage in the order records pass them; the last row's `passed` equals `kept`."""
        rows = []
        left = self.inputs
        for stage in (*self.stages, *(name for name in self.rejected if name not in self.stages)):
            reasons = self.rejected.get(stage, Counter())
            rows.append(FunnelRow(stage, left, left - reasons.total(), dict(reasons.most_common())))
            left -= reasons.total()
        return rows
