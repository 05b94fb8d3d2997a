"""Cuts a listing into units so that all URLs of a host lie in one lane, and a lane is worked on by one worker at a time.

The listing is spilled to one file per lane (memory stays flat), then each lane is dealt out host by host in turn, so that the
pauses of one host are spent on the others. The number of lanes follows from the listing's length: the same listing gives the
same units whatever the number of workers.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from zlib import crc32

from handface.pipeline.contract.inputs import SourceItem, item_line, line_item
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.units import Unit, UnitRef, cut, write_plan
from handface.pipeline.fetch.network.url import owner_of

BUCKETS = 256  # of hosts; neighbouring ones are merged into lanes, so this is the most lanes there can be
_WINDOW = 16  # units' worth of a lane held at once while it is dealt out


def lane_planner(lane_units: int) -> Callable[..., list[UnitRef]]:
    """A `plan_with` for `prepare` (engine/run.py) that partitions by host."""
    return partial(plan_lanes, lane_units=lane_units)


def plan_lanes(
    items: Iterable[SourceItem],
    output: Folder,
    unit_size: int,
    fingerprint: str,
    progress: Callable[[int], None] = lambda _: None,
    *,
    lane_units: int,
) -> list[UnitRef]:
    """Stream the listing into a plan whose units carry their lane. Raises StorageError when it cannot be written.

    lane_units: units a lane should have; large hosts have longer ones.
    """
    with tempfile.TemporaryDirectory(prefix="handface-plan-") as folder:
        count = _spill(items, Path(folder))
        lanes = min(BUCKETS, max(1, count // (unit_size * lane_units)))
        return write_plan(_units(Path(folder), lanes, unit_size, fingerprint), output, progress)


def bucket_of(item: SourceItem) -> int:
    """The bucket of an input's host; what has no host goes by its own name."""
    return crc32((owner_of(item.uri) or item.uri).encode("utf-8", "replace")) % BUCKETS


def _spill(items: Iterable[SourceItem], folder: Path) -> int:
    count = 0
    with ExitStack() as stack:
        files = [stack.enter_context((folder / str(bucket)).open("w", encoding="utf-8")) for bucket in range(BUCKETS)]
        for item in items:
            files[bucket_of(item)].write(item_line(item) + "\n")
            count += 1
    return count


def _units(folder: Path, lanes: int, unit_size: int, fingerprint: str) -> Iterator[tuple[Unit, int]]:
    for lane in range(lanes):
        for unit in cut(deal(_lane_items(folder, lane, lanes), _WINDOW * unit_size), unit_size, fingerprint):
            yield unit, lane


def _lane_items(folder: Path, lane: int, lanes: int) -> Iterator[SourceItem]:
    for bucket in range(lane * BUCKETS // lanes, (lane + 1) * BUCKETS // lanes):
        with (folder / str(bucket)).open(encoding="utf-8") as lines:
            yield from map(line_item, lines)


def deal(items: Iterable[SourceItem], window: int) -> Iterator[SourceItem]:
    """One input of each host in turn, within windows of the stream; inputs of one host keep their order."""
    stream = iter(items)
    while chunk := list(islice(stream, window)):
        hosts: dict[str | None, deque[SourceItem]] = {}
        for item in chunk:
            hosts.setdefault(owner_of(item.uri), deque()).append(item)
        turns = deque(hosts.values())
        while turns:
            host = turns.popleft()
            yield host.popleft()
            if host:
                turns.append(host)
