"""The user's cache: what costs time to make again and may be deleted at any moment."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """`handface/NAME` in XDG_CACHE_HOME, or in `~/.cache`; it may not exist yet. Raises RuntimeError for a user without a home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "handface" / name


def keep(file: Path, content: bytes) -> None:
    """Write a file of the cache at once, so that processes which do so side by side never read half of it. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
