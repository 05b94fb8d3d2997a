"""A crawl as rounds: round 0 asks for the inputs, each later round for what the one before led to.

Redirects to another host, links and sitemap entries are not followed where they are found: they become inputs of the next
round, planned by host like any others, so that a host is never asked by two workers. A round is a run of its own in
`round-NN/` (units, parts, exactly once); `crawl.json` names the rounds and is written before a round starts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from handface.pipeline.contract.config import BaseConfig
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.parts import CRAWL, FinishedPart, read_parts
from handface.pipeline.contract.storage import Folder
from handface.pipeline.crawl.ledger import Ledger, chosen
from handface.pipeline.crawl.plan import lane_planner
from handface.pipeline.crawl.stage import DEPTH, ROLE, CrawlStage, LinkConfig
from handface.pipeline.engine.run import Run, finished_of, prepare
from handface.pipeline.engine.run_record import require_kind
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.original import KeepConfig
from handface.pipeline.sources.base import SourceConfig

if TYPE_CHECKING:
    import pyarrow as pa

    from handface.pipeline.engine.funnel import Funnel


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

    def runs(
        self,
        listing: Callable[[], Iterable[SourceItem]],
        retry: Sequence[str] = (),
        progress: Callable[[int], None] = lambda _: None,
    ) -> Iterator[Run]:
        """The crawl's rounds as runs, each prepared when the one before has been executed; ends when nothing is left to ask for.

        Args:
            listing: The inputs of round 0.
            retry: Reasons; URLs whose last word is one of them are asked again, once in this call. A retry with these
                reasons that was not finished is gone on with instead.
            progress: Gets the inputs of each unit as it is planned.

        Raises:
            ConfigMismatchError: The crawl in the folder differs.
            ValueError: A reason that does not exist, or a retry of nothing.
            StorageError: The folder cannot be written.
        """
        name, number = retry_name(retry), 0
        if name and not self.rounds():
            raise ValueError(f"--retry-failed: {self.output} holds no crawl yet")
        while (run := self.open(number, listing, progress)) is not None:
            if run.pending and name in [earlier.retry for earlier in self.rounds()[: number + 1]]:
                name = ""
            yield run
            number += 1
            if name and number == len(self.rounds()) and not self._has_frontier(number):
                if any(True for _ in self._retried(number, set(name.split(",")))):
                    self._append(Round(f"round-{number:02d}", name))
                name = ""

    def open(
        self,
        number: int,
        listing: Callable[[], Iterable[SourceItem]],
        progress: Callable[[int], None] = lambda _: None,
    ) -> Run | None:
        """Join or start round `number`; None if it would be empty. Raises ConfigMismatchError, StorageError."""
        require_kind(self.folder, crawl=True)
        rounds = self.rounds()
        fresh = not rounds
        if number == len(rounds):
            if number and not self._has_frontier(number):
                return None
            rounds.append(Round(f"round-{number:02d}"))
            self._append(rounds[-1])
        if retry := rounds[number].retry:
            return self._prepare(number, lambda: self._retried(number, set(retry.split(","))), progress)
        try:
            return self._prepare(number, listing if number == 0 else lambda: self.frontier(number), progress)
        except Exception:
            if fresh:
                self._forget(rounds[number])
            raise

    def check(self) -> Funnel | None:
        """What is finished of round 0 in the folder, or None if it has none. Raises ConfigMismatchError if what is there is another."""
        require_kind(self.folder, crawl=True)
        rounds = self.rounds()
        if not rounds:
            return None
        return finished_of(
            [*self.inputs, rounds[0].name], lambda: self.config, self._uri(rounds[0]), stages=self._stages
        )

    def frontier(self, number: int) -> Iterator[SourceItem]:
        """What the round before led to and no earlier round has asked for, in the order of parts and rows."""
        with Ledger() as ledger:
            for earlier in range(number):
                for part in self._parts(earlier):
                    ledger.add(earlier, part.rows(["id"])["id"].to_pylist())
            for part in self._parts(number - 1):
                ledger.add(number, [item.id for item in part.found()])
            fresh = ledger.unasked(number)
        yield from chosen((item for part in self._parts(number - 1) for item in part.found()), fresh)

    def outcomes(self) -> Iterator[pa.Table]:
        """One row per URL over all rounds, as tables: its last word, with the round and the part it was said in."""
        import pyarrow as pa

        rounds = range(len(self.rounds()))
        with Ledger() as ledger:
            for number in rounds:
                for part in self._parts(number):
                    ledger.add(number, part.rows(["id"])["id"].to_pylist())
            last = ledger.last_words()
        for number in rounds:
            start = 0
            for part in self._parts(number):
                rows = part.rows()
                mask = last[number][start : start + len(rows)]
                start += len(rows)
                rows = rows.filter(pa.array(mask))
                rows = rows.append_column("round", pa.array([number] * len(rows), pa.int32()))
                yield rows.append_column("part", pa.array([part.manifest.unit] * len(rows), pa.string()))

    def _has_frontier(self, number: int) -> bool:
        return any(True for _ in self.frontier(number))

    def _retried(self, number: int, reasons: set[str]) -> Iterator[SourceItem]:
        for table in self.outcomes():
            for row in table.select(["uri", "member", "columns", "reason", "stage", "round"]).to_pylist():
                if row["round"] < number and row["reason"] in reasons and row["stage"] != "list":
                    yield SourceItem(row["uri"], row["member"], columns=tuple(sorted(row["columns"])))

    def _prepare(
        self, number: int, listing: Callable[[], Iterable[SourceItem]], progress: Callable[[int], None]
    ) -> Run:
        config, one = self.config, self.rounds()[number]
        return prepare(
            [*self.inputs, one.name],
            config,
            self._uri(one),
            list_inputs=listing,
            stages=self._stages,
            progress=progress,
            plan_with=lane_planner(config.lane_units),
            batch=config.unit_size,
        )

    def _stages(self, config: CrawlConfig, day: str) -> list[CrawlStage]:
        return [CrawlStage(config.http, config.keep, config.links, day, config.exclude)]

    def _uri(self, one: Round) -> str:
        return f"{self.output}/{one.name}"

    def _parts(self, number: int) -> Iterator[FinishedPart]:
        return read_parts(self._uri(self.rounds()[number]))

    def _forget(self, first: Round) -> None:
        """A listing that was refused leaves no crawl behind."""
        with suppress(OSError):
            self.folder.remove(CRAWL)
            if self.folder.local:
                Path(self.folder.path(first.name)).rmdir()

    def _append(self, new: Round) -> None:
        rounds = [asdict(one) for one in [*self.rounds(), new]]
        self.folder.write(CRAWL, (json.dumps({"rounds": rounds}, indent=1) + "\n").encode())


def retry_name(reasons: Iterable[str]) -> str:
    """How `crawl.json` writes a set of reasons; "" for none. Raises ValueError for reasons that do not exist."""
    names = sorted({name.strip() for name in reasons})
    known = [reason.value for reason in Reason]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"--retry-failed {','.join(unknown)}: no such reason; the reasons are {', '.join(known)}")
    return ",".join(names)


def seeds(urls: Iterable[str], role: str) -> Iterator[SourceItem]:
    """Seed pages or sitemaps as inputs of round 0."""
    for url in urls:
        yield SourceItem(url, columns=((DEPTH, "0"), (ROLE, role)))
