"""Files that are damaged: each is named once, what is whole is gone on with, and the verb ends with exit code 1."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from handface.counted import counted
from handface.pipeline.contract.storage import Folder

log = logging.getLogger(__name__)
TABLES, EVERYTHING = ".parquet", ""
_NAMED = 20


class Listed(Protocol):
    """What a manifest says of a file."""

    @property
    def bytes(self) -> int:
        """Its size."""

    @property
    def sha256(self) -> str:
        """Its checksum in hex."""


@dataclass
class Damage:
    """The damaged files that a command met.

    compared: How the names end of files that are read whole, since a size does not tell of bytes that changed in place: TABLES,
        EVERYTHING, or None for no file.
    files: {file: what is wrong with it}.
    """

    compared: str | None = None
    files: dict[str, str] = field(default_factory=dict)

    def add(self, file: str, problem: str) -> None:
        """Note a file, and say so the first time."""
        if file not in self.files:
            log.warning("%s: %s", file, problem)
            self.files[file] = problem

    def check(self, folder: Folder, manifest: str, listed: Mapping[str, Listed], sizes: Mapping[str, int]) -> bool:
        """Whether all files that a manifest of the folder lists are whole.

        Args:
            folder: Where they lie.
            manifest: Its name, for messages.
            listed: {name: size and checksum}.
            sizes: {name: bytes} of the files that are there.
        """
        whole = True
        for name, info in listed.items():
            if sizes.get(name) != info.bytes:
                problem = f"missing or not the size {manifest} says"
            elif self.compared is not None and name.endswith(self.compared) and folder.sha256(name) != info.sha256:
                problem = f"not the checksum {manifest} says: changed in place"
            else:
                continue
            self.add(f"{folder.uri.rstrip('/')}/{name}", problem)
            whole = False
        return whole

    def report(self) -> int:
        """Print how many files are damaged, and which, on a line of its own. Returns the exit code: 0, or 1 if there is any."""
        if self.files:
            names = sorted(self.files)
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            print(
                f"{counted(len(names), 'damaged file')}: {', '.join(names[:_NAMED])}{more};"
                " `handface validate` says what is wrong, and the command that wrote a part, given again, makes it anew"
            )
        return 1 if self.files else 0
