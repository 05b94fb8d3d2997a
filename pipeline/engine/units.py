"""Cuts a streaming listing into deterministic work units and keeps the plan beside the output, never in memory.

`plan/units.jsonl.gz` holds one gzip member per unit (so `zcat` reads it all and a worker reads one unit by its range);
`plan/units.parquet` is the index, written last: a plan without it is not a plan.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import chain, islice

from handface.pipeline.contract.inputs import SourceItem, compress_lines, item_line, line_item
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import dump_table, load_table

PLAN = "plan/units.jsonl.gz"
INDEX = "plan/units.parquet"
ID_LENGTH = 16
_SPREAD, _SMALLEST = 32, 8  # units that a short listing gives at least, unless they had fewer inputs than this


@dataclass(frozen=True)
class Unit:
    """Some inputs that are worked on together and end in one part."""

    id: str
    items: tuple[SourceItem, ...]


@dataclass(frozen=True)
class UnitRef:
    """Where in the plan a unit stands; small enough that the driver can hold one per unit."""

    id: str
    offset: int
    length: int
    inputs: int
    lane: int = -1  # units of one lane (0 and on) are worked on by one worker, one after the other


def unit_id(items: Iterable[SourceItem], fingerprint: str, repeat: int = 0) -> str:
    """First 16 hex of sha256 over the config fingerprint and the inputs' ids; `repeat` tells equal units of a list apart."""
    digest = hashlib.sha256(fingerprint.encode())
    for item in items:
        digest.update(item.id.encode())
    if repeat:
        digest.update(f"repeat {repeat}".encode())
    return digest.hexdigest()[:ID_LENGTH]


def cut(items: Iterable[SourceItem], unit_size: int, fingerprint: str) -> Iterator[Unit]:
    """Units of `unit_size` inputs in listing order. Holds one unit at a time; the same listing gives the same units."""
    seen: dict[str, int] = {}
    stream = iter(items)
    while chunk := tuple(islice(stream, unit_size)):
        plain = unit_id(chunk, fingerprint)
        repeat = seen[plain] = seen.get(plain, -1) + 1
        yield Unit(unit_id(chunk, fingerprint, repeat), chunk)


def plan_units(
    items: Iterable[SourceItem],
    output: Folder,
    unit_size: int,
    fingerprint: str,
    progress: Callable[[int], None] = lambda _: None,
) -> list[UnitRef]:
    """Stream the listing into the plan below `output` and return its index. Any worker may take any unit.

    progress: gets the number of inputs of each unit as it is planned.  Raises StorageError when the plan cannot be written.
    """
    return write_plan(((unit, -1) for unit in cut(items, unit_size, fingerprint)), output, progress)


def plan_small_units(
    items: Iterable[SourceItem],
    output: Folder,
    unit_size: int,
    fingerprint: str,
    progress: Callable[[int], None] = lambda _: None,
) -> list[UnitRef]:
    """As `plan_units`, but a short listing is cut into smaller units, so that many workers have something to do.

    The size follows from the listing's length alone: the same listing gives the same units whatever the number of workers.
    """
    stream = iter(items)
    first = list(islice(stream, _SPREAD * unit_size))
    return plan_units(chain(first, stream), output, small_unit_size(len(first), unit_size), fingerprint, progress)


def small_unit_size(count: int, unit_size: int) -> int:
    """Inputs of a unit of `plan_small_units`, where the listing has `count`."""
    return min(unit_size, max(_SMALLEST, -(-count // _SPREAD)))


def write_plan(
    units: Iterable[tuple[Unit, int]], output: Folder, progress: Callable[[int], None] = lambda _: None
) -> list[UnitRef]:
    """Write (unit, lane) pairs as the plan of `output` and return its index. Raises StorageError."""
    refs = []
    offset = 0
    output.clean("plan/units")
    with output.writer(PLAN) as stream:
        for unit, lane in units:
            blob = _pack(unit)
            stream.write(blob)
            refs.append(UnitRef(unit.id, offset, len(blob), len(unit.items), lane))
            offset += len(blob)
            progress(len(unit.items))
    output.write(INDEX, _index_bytes(refs))
    return refs


def read_plan(output: Folder) -> list[UnitRef] | None:
    """The index of the plan in listing order, or None if none was finished."""
    if not output.exists(INDEX):
        return None
    table = load_table(output.read(INDEX))
    return [UnitRef(*row) for row in zip(*(table[f.name].to_pylist() for f in fields(UnitRef)), strict=True)]


def read_unit(output: Folder, ref: UnitRef) -> Unit:
    """One unit out of the plan. Raises ValueError naming the plan if its bytes are not what the index says."""
    blob = output.read_range(PLAN, ref.offset, ref.length)
    try:
        head, *rows = gzip.decompress(blob).splitlines()
        unit = Unit(json.loads(head)["unit"], tuple(map(line_item, rows)))
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{output.uri}/{PLAN} is damaged at byte {ref.offset} ({error}); use a new output folder"
        ) from error
    if unit.id != ref.id or len(unit.items) != ref.inputs:
        raise ValueError(f"{output.uri}/{PLAN} and its index disagree about unit {ref.id}; use a new output folder")
    return unit


def _pack(unit: Unit) -> bytes:
    """A unit as one gzip member: a line with its id, then a line per input. Level 1, no time: the same bytes every time."""
    return compress_lines([json.dumps({"unit": unit.id}), *map(item_line, unit.items)])


def _index_bytes(refs: list[UnitRef]) -> bytes:
    import pyarrow as pa

    columns = {f.name: [getattr(ref, f.name) for ref in refs] for f in fields(UnitRef)}
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("offset", pa.int64()),
            ("length", pa.int64()),
            ("inputs", pa.int32()),
            ("lane", pa.int32()),
        ]
    )
    return dump_table(pa.table(columns, schema))
