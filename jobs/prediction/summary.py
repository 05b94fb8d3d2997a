"""What became of every input of `handface predict`: summary.json, and the table at the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from handface.counted import counted

# rows of each list of the table; summary.json has all
SHOWN = 20


@dataclass(frozen=True)
class VideoFacts:
    """How a video was written. mean_rate: frames per second of the drawn video; the table has each frame's own time."""

    frames: int
    mean_rate: float
    codec: str


@dataclass
class Summary:
    """What became of every input, by name.

    files: what its results are called, without the ending.  persons: how many people, and hands: how many hands at their faces, in a photo, or different ones in a video.
    people: of each of a photo's hands the side, probabilities, quality, contact shares, and how far to trust them in words.
    """

    model: str
    trained: bool
    files: dict[str, str] = field(default_factory=dict)
    persons: dict[str, int] = field(default_factory=dict)
    hands: dict[str, int] = field(default_factory=dict)
    people: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    nobody: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    videos: dict[str, VideoFacts] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0; 1 if an input failed, or there is nobody in any."""
        return 1 if self.failed or not self.persons else 0

    def found(self, name: str, persons: int, hands: int, reason: str) -> None:
        """Count an input that could be read."""
        if persons:
            self.persons[name], self.hands[name] = persons, hands
        else:
            self.nobody[name] = reason

    @property
    def text(self) -> str:
        """For people; every failed input by name."""
        from handface.model.outputs.trust import count_words

        total = len(self.persons) + len(self.nobody) + len(self.failed)
        counts = count_words(sum(self.persons.values()), sum(self.hands.values()))
        lines = [
            f"{counted(total, 'input')}: {len(self.persons)} with people ({counts}),"
            f" {len(self.nobody)} without, {len(self.failed)} failed"
        ]
        lines += self._table()
        for what, names in (("nobody in", self.nobody), ("failed", self.failed)):
            lines += [f"  {what} {name}: {reason}" for name, reason in list(names.items())[:SHOWN]]
            if len(names) > SHOWN:
                lines.append(f"  ... and {len(names) - SHOWN} more, see summary.json")
        if "no face" in self.nobody.values():
            lines.append("  no face: the picture has to show it from the brows to the chin")
        return "\n".join(lines)

    def _table(self) -> list[str]:
        """The hands of least quality first: these are to be looked at."""
        rows = [(name, one) for name, people in self.people.items() for one in people]
        rows.sort(key=lambda row: -1.0 if row[1]["quality"] is None else row[1]["quality"])
        if not rows:
            return []
        lines = [f"  {'quality':>7}  {'touch':>5}  {'detected':>8}  {'hand':5}  photo"]
        for name, one in rows[:SHOWN]:
            numbers = ["-" if one[key] is None else f"{one[key]:.2f}" for key in ("quality", "presence", "confidence")]
            note = "" if one["level"] == "good" else f": {one['words']}"
            lines.append(f"  {numbers[0]:>7}  {numbers[1]:>5}  {numbers[2]:>8}  {one['side']:5}  {name}{note}")
        if len(rows) > SHOWN:
            more = counted(len(rows) - SHOWN, "hand")
            lines.append(f"  ... and {more} of higher quality, see summary.json")
        return lines


def untrained_notice(model: str) -> None:
    """Say on stderr that the network's answers mean nothing. model: its name."""
    from rich.console import Console
    from rich.panel import Panel

    text = (
        f"The network {model} is UNTRAINED: its weights are random numbers, or were a few steps ago, or its file does not say that they were"
        " trained (docs/weights.md). Meshes, contact and parameters mean NOTHING."
        ' Only detections and crops are real. Every result says "trained": false; give --model a trained checkpoint.'
    )
    Console(stderr=True).print(Panel(text, title="UNTRAINED NETWORK", style="bold red"))
