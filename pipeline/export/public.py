"""What may be published of an address: files of this machine by their name alone, since folders tell who a person is."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from handface.pipeline.contract.tar_index import iter_members
from handface.pipeline.export.extents import END

if TYPE_CHECKING:
    import pyarrow as pa

_LOCAL = ("/", "file:/")
_TEXTS = ("uri", "page")
_MAPS = ("columns", "evidence")


def is_local(address: str) -> bool:
    """Whether an address is an absolute path on this machine."""
    return address.startswith(_LOCAL)


def public_name(address: str) -> str:
    """`/home/anna/photos/1.jpg` -> `1.jpg`; any other address as it is."""
    return (address.rstrip("/").rpartition("/")[2] or "file") if is_local(address) else address


def local_rows(rows: pa.Table) -> Any:
    """(N,) bool arrow array: which rows hold a local path; needs uri, page and columns."""
    import pyarrow as pa
    import pyarrow.compute as pc

    local = pc.or_(*(_starts_local(rows[name]) for name in _TEXTS)).combine_chunks()
    if pc.any(_starts_local(_items(rows, "columns"))).as_py():
        maps = rows["columns"].to_pylist()
        held = [any(is_local(value) for _, value in pairs or () if value) for pairs in maps]
        local = pc.or_(local, pa.array(held, pa.bool_()))
    return local


def with_public_names(rows: pa.Table) -> pa.Table:
    """The rows with every local path replaced by its name."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for name in _TEXTS:
        if pc.any(_starts_local(rows[name])).as_py():
            texts = [value and public_name(value) for value in rows[name].to_pylist()]
            rows = rows.set_column(rows.column_names.index(name), name, pa.array(texts, pa.string()))
    for name in _MAPS:
        if pc.any(_starts_local(_items(rows, name))).as_py():
            maps = [
                pairs and [(key, value and public_name(value)) for key, value in pairs]
                for pairs in rows[name].to_pylist()
            ]
            rows = rows.set_column(rows.column_names.index(name), name, pa.array(maps, rows.schema.field(name).type))
    return rows


def _items(rows: pa.Table, name: str) -> Any:
    import pyarrow as pa

    column = rows[name].combine_chunks()
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return pa.chunked_array([chunk.items for chunk in chunks], pa.string())


def _starts_local(texts: Any) -> Any:
    import pyarrow.compute as pc

    found = [pc.starts_with(texts, start) for start in _LOCAL]
    return pc.fill_null(pc.or_(*found), False)


def redact_sample(sample: bytearray) -> None:
    """Replace the local paths in the JSON of a sample, in place.

    sample: its members as they lie in a tar, headers included. The text is filled up with blanks, which JSON allows, so that
    sizes and places stay. Raises ValueError if that cannot be done.
    """
    for member in list(iter_members("a sample", io.BytesIO(sample + END), len(sample) + len(END))):
        if member.name.endswith(".json"):
            start, size = member.offset, member.size
            raw = bytes(sample[start : start + size])
            text = raw
            for path in set(_local_texts(json.loads(raw))):
                for ascii_only in (False, True):
                    before, after = (
                        json.dumps(value, ensure_ascii=ascii_only).encode() for value in (path, public_name(path))
                    )
                    text = text.replace(before, after)
            if any(_local_texts(json.loads(text))) or len(text) > size:
                raise ValueError(f"member {member.name!r}: a local path cannot be taken out of it")
            sample[start : start + size] = text.ljust(size)


def _local_texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if is_local(value):
            yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _local_texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _local_texts(one)
