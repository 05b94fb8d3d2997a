"""Looks at a listing before it is frozen into a plan: what was read, what was turned away, and whether that can be right."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from handface.counted import counted
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.names.patterns import is_remote, local
from handface.pipeline.contract.names.url_names import is_web
from handface.pipeline.contract.storage import Folder
from handface.pipeline.sources.base import Notes, Unlisted
from handface.pipeline.sources.lists import LIST_SUFFIXES

log = logging.getLogger(__name__)
LISTING = "plan/listing.json"
_SHOWN = 5


class ListingError(ValueError):
    """A listing cannot be right, so no plan was made; the message says what is wrong and what to do."""


@dataclass
class Listing:
    """The inputs of a run on their way into its plan: iterate once, then look.

    Iterating raises ListingError at its end, before a plan is written, if there is no input, if a list, tar or folder could not be
    read to its end, or if more rows were turned away than read.

    Attributes:
        source: Lists the inputs; gets the notes to fill.
        skip_problems: Go on without what could not be read; it is counted as any other input that is turned away.
        count_hosts: Also count inputs per host.
        inputs: Inputs so far, without rows that name none.
        problems: Rows that name no input, by reason.
        hosts: {host: inputs}.
    """

    source: Callable[[Notes], Iterable[SourceItem]]
    skip_problems: bool = False
    count_hosts: bool = False
    notes: Notes = field(default_factory=Notes)
    inputs: int = 0
    problems: Counter[Reason] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    unlisted: list[Unlisted] = field(default_factory=list)
    hosts: Counter[str] = field(default_factory=Counter)
    done: bool = False

    def __iter__(self) -> Iterator[SourceItem]:
        for item in self.source(self.notes):
            self._count(item)
            yield item
        if wrong := self.wrong():
            raise ListingError(f"{wrong} Nothing was planned.")
        self.done = True

    def wrong(self) -> str:
        """Why this listing must not become a plan, or ""."""
        if self.unlisted and not self.skip_problems:
            shown = "; ".join(item.detail for item in self.unlisted[:_SHOWN])
            more = f"; and {len(self.unlisted) - _SHOWN} more" if len(self.unlisted) > _SHOWN else ""
            return f"{shown.rstrip('.')}{more}. Mend this, or go on without it (--skip-problems)."
        if not self.inputs:
            return f"no input to work on{self._beside()}."
        turned_away = self.problems.total()
        if turned_away > self.inputs and not self.skip_problems:
            return (
                f"{turned_away:,} rows name no input, only {self.inputs:,} do: {'; '.join(self.examples)}."
                " Mend the list, or go on without them (--skip-problems)."
            )
        return ""

    def lines(self) -> list[str]:
        """What was read, for people."""
        rows = self.notes.rows
        found = [f"{uri}: {counted(count, 'row')}" for uri, count in list(rows.items())[:_SHOWN]]
        if len(rows) > _SHOWN:
            found.append(f"... {len(rows):,} lists and tars with {rows.total():,} rows in all")
        found.append(counted(self.inputs, "input"))
        if self.problems:
            counts = ", ".join(f"{reason.value} {count:,}" for reason, count in self.problems.most_common())
            rows_without = counted(self.problems.total(), "row that names", "rows that name")
            found.append(f"{rows_without} no input: {counts} ({'; '.join(self.examples)})")
        found += [f"not listed to its end: {item.detail}" for item in self.unlisted[:_SHOWN]]
        if self.notes.ignored:
            found.append(f"files that are no input: {_counts(self.notes.ignored)}")
        if self.notes.dropped:
            columns = ", ".join(f"{name} ({why})" for name, why in sorted(self.notes.dropped.items()))
            found.append(f"columns that do not travel along: {columns}")
        return found

    def finish(self, output: str) -> None:
        """After planning: say what was read and note the lists' sizes; for a run planned earlier, say which of them have changed."""
        folder = Folder(output)
        if self.done:
            for line in self.lines():
                log.info("%s", line)
            stamps = {uri: _stamp(uri) | {"rows": rows} for uri, rows in self.notes.rows.items()}
            folder.write(LISTING, (json.dumps(stamps, indent=1, sort_keys=True) + "\n").encode())
        elif folder.exists(LISTING):
            for uri, was in json.loads(folder.read(LISTING)).items():
                now = _stamp(uri)
                if now and any(now[name] != was.get(name) for name in now):
                    log.warning(
                        "%s has changed since this run was planned: the run goes on with the %s rows of then;"
                        " for the new ones use another output folder",
                        *(uri, f"{was['rows']:,}"),
                    )

    def _count(self, item: SourceItem) -> None:
        if isinstance(item, Unlisted):
            self.unlisted.append(item)
        elif item.problem is not None:
            self.problems[item.problem] += 1
            if len(self.examples) < _SHOWN:
                self.examples.append(item.detail or item.name)
        else:
            self.inputs += 1
            if self.count_hosts and is_web(item.uri):
                self.hosts[urlsplit(item.uri).hostname or ""] += 1

    def _beside(self) -> str:
        found = [self.examples[0]] if self.examples else []
        found += [item.detail for item in self.unlisted[:_SHOWN]]
        if self.notes.ignored:
            found.append(f"files that are no input: {_counts(self.notes.ignored)}")
        return f" ({'; '.join(found)})" if found else ""


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common(12))


def _stamp(uri: str) -> dict[str, int | str]:
    """Size of a local file, and checksum of a list; nothing for what is elsewhere or gone."""
    path = local(uri)
    if is_remote(uri) or not path.is_file():
        return {}
    stamp: dict[str, int | str] = {"bytes": path.stat().st_size}
    return stamp | ({"sha256": _sha256(path)} if uri.lower().endswith(LIST_SUFFIXES) else {})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
