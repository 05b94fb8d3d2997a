"""Files that a flag names are looked for before a verb loads anything."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def require_files(flag: str, names: Iterable[str]) -> None:
    """Raise FileNotFoundError naming the flag and the first file that is not there; other storage is asked when it is read."""
    for name in names:
        if "://" not in name and not Path(name).expanduser().is_file():
            raise FileNotFoundError(f"{flag} {name}: no such file")
