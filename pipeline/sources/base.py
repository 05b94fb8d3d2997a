"""What every source is, the options they share, and what they note while they list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from handface.pipeline.contract.config import Share
from handface.pipeline.contract.inputs import SourceItem


@dataclass(frozen=True)
class SourceConfig:
    """How lists, tars and videos are read. Everything here decides which inputs there are."""

    url_column: str = "url"
    """Column of a list that holds the URL or path. In a .txt list each line is one."""
    columns: dict[str, str] = field(default_factory=dict)
    """Renames of list columns, e.g. `LICENSE_URL licence`: page, licence and author are kept in fields of their own."""
    frame_step: float = 1.0
    """Seconds between frames taken from a video; 0 takes scene changes only."""
    scene_threshold: Share = 0.35
    """A frame starts a new scene when its colour histogram differs from the last by this (0 to 1); 1 switches it off."""


@dataclass
class Notes:
    """What was seen beside the inputs while they were listed.

    ignored: {suffix: files in folders and tars that are no input}.  dropped: {column: why it does not travel along}.
    rows: {list or tar: rows or samples read}.
    """

    ignored: Counter[str] = field(default_factory=Counter)
    dropped: dict[str, str] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Unlisted(SourceItem):
    """Stands for a whole list, tar, folder or pattern that could not be read, or not to its end."""


class InputSource(Protocol):
    """Iterates over inputs in a fixed order, lazily; the same source gives the same items every time."""

    @property
    def uri(self) -> str:
        """What is listed."""

    def __iter__(self) -> Iterator[SourceItem]:
        """The items in order."""
