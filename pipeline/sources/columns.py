"""Cells of lists and sidecars as the columns that travel with an input: short text only, unknown where nothing is said."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_UNKNOWN = frozenset(("", "nan", "none", "null", "<na>", "nat", "n/a", "inf", "-inf"))
_MAX_TEXT = 4096  # characters; a caption is shorter, a picture or an embedding written as text is longer
_PROVENANCE = ("licence", "author", "page", "fetched_at")


def cell_text(cell: Any) -> str | None:
    """A cell as text; None where it says nothing (empty, NaN, None, null) or holds what does not travel (`dropped_kind`)."""
    if type(cell) is str and cell.isascii() and 8 < len(cell) <= _MAX_TEXT and "\0" not in cell:
        return cell  # nearly all
    if cell is None or isinstance(cell, bytes | bytearray | memoryview | list | tuple | dict):
        return None
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    text = clean_text(str(cell))
    return None if text.strip().lower() in _UNKNOWN or len(text) > _MAX_TEXT else text


def clean_text(text: str) -> str:
    r"""Text that every table and JSON takes: no zero bytes, no halves of characters (they become `\uXXXX`)."""
    if text.isascii() and "\0" not in text:
        return text
    text = text.replace("\0", "")
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def dropped_kind(cell: Any) -> str | None:
    """Why a cell does not travel along, or None."""
    if isinstance(cell, bytes | bytearray | memoryview):
        return "bytes"
    if isinstance(cell, list | tuple | dict):
        return "a vector or nested values"
    return f"text of more than {_MAX_TEXT} characters" if isinstance(cell, str) and len(cell) > _MAX_TEXT else None


def sidecar_columns(suffix: str, data: bytes, rename: Mapping[str, str]) -> dict[str, str]:
    """The columns that a `.json` or `.txt` member beside an image gives; nothing if it does not parse."""
    text = data.decode("utf-8-sig", errors="replace")
    if suffix == "txt":
        caption = cell_text(text)
        return {} if caption is None else {"caption": caption}
    try:
        values: Any = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    if isinstance(values.get("source"), dict) and "schema_version" in values:
        return _sample_columns(values["source"])
    return _texts({rename.get(str(name), str(name)): value for name, value in values.items()})


def _sample_columns(source: Mapping[str, Any]) -> dict[str, str]:
    """Provenance out of the `.json` member of a sample of ours: what the picture's first listing said about it."""
    columns = _texts(source["columns"]) if isinstance(source.get("columns"), dict) else {}
    if isinstance(source.get("evidence"), dict):
        columns |= {f"evidence.{name}": value for name, value in _texts(source["evidence"]).items()}
    columns |= _texts({name: source.get(name) for name in _PROVENANCE})
    uri = cell_text(source.get("uri"))
    if uri is not None and uri.startswith(("http://", "https://")):
        columns["url"] = uri
    elif uri is not None and not uri.startswith(("/", "file:")):
        # A path of the machine that made the sample says nothing here, and it would be published.
        columns.setdefault("source", uri)
        columns |= {f"source_{name}": value for name, value in _texts({"member": source.get("member")}).items()}
    if (original := cell_text(source.get("sha256"))) is not None:
        columns.setdefault("original_sha256", original)
    return columns


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {clean_text(str(name)): text for name, value in values.items() if (text := cell_text(value)) is not None}
