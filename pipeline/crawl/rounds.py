"""A crawl as rounds: round 0 asks for the inputs, each later round for what the one before led to.

Redirects to another host, links and sitemap entries are not followed where they are found: they become inputs of the next
round, planned by host like any others, so that a host is never asked by two workers. A round is a run of its own in
`round-NN/` (units, parts, exactly once); `crawl.json` names the rounds and is written before a round starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from handface.pipeline.contract.config import BaseConfig
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.storage import Folder
from handface.pipeline.crawl.plan import lane_planner
from handface.pipeline.crawl.stage import DEPTH, ROLE, CrawlStage, LinkConfig
from handface.pipeline.engine.record import Stage
from handface.pipeline.engine.run import Run, prepare
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.original import KeepConfig
from handface.pipeline.sources.base import SourceConfig

CRAWL = "crawl.json"


@dataclass(frozen=True, kw_only=True)
class CrawlConfig(BaseConfig):
    """Everything that decides what a crawl asks for and keeps."""

    unit_size: int = 512
    """URLs per work unit, hence per part; at most one unit per worker is asked for again after a kill."""
    lane_units: int = 4
    """Units per lane, a group of hosts that one worker owns; fewer give more workers something to do."""
    sources: SourceConfig = field(default_factory=SourceConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    keep: KeepConfig = field(default_factory=KeepConfig)
    links: LinkConfig = field(default_factory=LinkConfig)
    exclude: tuple[str, ...] = ()
    """Parquet lists of what must stay out (`tombstones.parquet` of a takedown, refusals, copies): URLs they name are not
    asked for, files they name by checksum are not kept."""
    exclude_digest: str = ""
    """Checksum of those lists; filled in when a crawl starts, so that one crawl never uses two versions of them."""

    def __post_init__(self) -> None:
        if self.unit_size < 1 or self.lane_units < 1:
            raise ValueError(f"unit_size {self.unit_size} and lane_units {self.lane_units} must be at least 1")

    def fingerprint(self) -> str:
        """sha256 over every field."""
        return self.digest("crawl 1")


@dataclass(frozen=True)
class Round:
    """One round: its folder's name, and the reasons it retries ("" for a round that follows what was found)."""

    name: str
    retry: str = ""


class Crawl:
    """The rounds in one output folder."""

    def __init__(self, output: str, config: CrawlConfig, inputs: tuple[str, ...]) -> None:
        self.output, self.config, self.inputs = output.rstrip("/"), config, inputs
        self.folder = Folder(self.output)

    def rounds(self) -> list[Round]:
        """The rounds there are, in order."""
        if not self.folder.exists(CRAWL):
            return []
        return [Round(**row) for row in json.loads(self.folder.read(CRAWL))["rounds"]]

    def open(
        self, number: int, listing: Callable[[], Iterable[SourceItem]], progress: Callable[[int], None]
    ) -> Run | None:
        """Join or start round `number`; None if it would be empty. Raises ConfigMismatchError, StorageError."""
        rounds = self.rounds()
        if number == len(rounds):
            if number and not any(True for _ in self.frontier(number)):
                return None
            self._append(Round(f"round-{number:02d}"))
        elif rounds[number].retry:
            listing = self._retry_listing(number, rounds[number].retry)
            return self._prepare(number, listing, progress)
        return self._prepare(number, listing if number == 0 else lambda: self.frontier(number), progress)

    def add_retry(self, reasons: Iterable[str]) -> int:
        """Start a round that asks again for the URLs whose last word was one of these reasons; returns its number.

        Raises ValueError for reasons that do not exist.
        """
        number = len(self.rounds())
        self._append(Round(f"round-{number:02d}", self.retry_name(reasons)))
        return number

    @staticmethod
    def retry_name(reasons: Iterable[str]) -> str:
        """How `crawl.json` writes a set of reasons. Raises ValueError for reasons that do not exist."""
        names = sorted({name.strip() for name in reasons})
        known = [reason.value for reason in Reason]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"--retry-failed {','.join(unknown)}: no such reason; the reasons are {', '.join(known)}")
        return ",".join(names)

    def frontier(self, number: int) -> Iterator[SourceItem]:
        """What the round before led to and no earlier round has asked for, in the order of parts and rows."""
        seen = self._asked(number)
        for part in self._parts(number - 1):
            for item in part.found():
                if (mark := int(item.id, 16)) not in seen:
                    seen.add(mark)
                    yield item

    def outcomes(self, upto: int | None = None) -> Iterator[dict[str, Any]]:
        """One row per URL over all rounds: its last word, with the round it was said in."""
        rounds = self.rounds()[:upto]
        said: set[tuple[str, int]] = set()
        for number in range(len(rounds) - 1, -1, -1):
            here: list[tuple[str, int]] = []
            copies: dict[str, int] = {}
            for part in self._parts(number):
                for row in part.rows().to_pylist():
                    copies[row["id"]] = copies.get(row["id"], 0) + 1
                    mark = row["id"], copies[row["id"]]  # a list may name a URL twice: two inputs, two rows
                    here.append(mark)
                    if mark not in said:
                        yield row | {"round": number, "part": part.manifest.unit}
            said.update(here)

    def _retry_listing(self, number: int, reasons: str) -> Callable[[], Iterator[SourceItem]]:
        wanted = set(reasons.split(","))

        def items() -> Iterator[SourceItem]:
            rows = [row for row in self.outcomes(number) if row["reason"] in wanted and row["stage"] != "list"]
            for row in sorted(rows, key=lambda row: (row["round"], row["id"])):
                yield SourceItem(row["uri"], row["member"], columns=tuple(sorted(row["columns"])))

        return items

    def _prepare(
        self, number: int, listing: Callable[[], Iterable[SourceItem]], progress: Callable[[int], None]
    ) -> Run:
        config = self.config

        def stages(_: Any, day: str) -> list[Stage]:
            return [CrawlStage(config.http, config.keep, config.links, day, config.exclude)]

        return prepare(
            [*self.inputs, self.rounds()[number].name],
            config,
            f"{self.output}/{self.rounds()[number].name}",
            list_inputs=listing,
            stages=stages,
            progress=progress,
            plan_with=lane_planner(config.lane_units),
            batch=config.unit_size,
        )

    def _asked(self, number: int) -> set[int]:
        return {
            int(identity, 16)
            for earlier in range(number)
            for part in self._parts(earlier)
            for identity in part.rows()["id"].to_pylist()
        }

    def _parts(self, number: int) -> Iterator[Any]:
        return read_parts(f"{self.output}/{self.rounds()[number].name}")

    def _append(self, new: Round) -> None:
        rounds = [asdict(one) for one in [*self.rounds(), new]]
        self.folder.write(CRAWL, (json.dumps({"rounds": rounds}, indent=1) + "\n").encode())


def seeds(urls: Iterable[str], role: str) -> Iterator[SourceItem]:
    """Seed pages or sitemaps as inputs of round 0."""
    for url in urls:
        yield SourceItem(url, columns=((DEPTH, "0"), (ROLE, role)))
