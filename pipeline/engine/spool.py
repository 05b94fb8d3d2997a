"""Bytes of a unit that wait on the local disk until its part is written, so that memory stays flat."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass


class Spool:
    """An anonymous temporary file (in TMPDIR) that ends with its last user. One writer at a time."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="handface-unit-")  # noqa: SIM115  # lives as long as what it holds
        self._end = 0

    def put(self, data: bytes) -> Spooled:
        """Keep bytes. Raises OSError if the disk is full."""
        self._file.seek(self._end)
        self._file.write(data)
        self._end += len(data)
        return Spooled(self, self._end - len(data), len(data))

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`."""
        self._file.seek(offset)
        return self._file.read(length)


@dataclass(frozen=True)
class Spooled:
    """Where in a spool something lies."""

    spool: Spool
    offset: int
    length: int

    def read(self) -> bytes:
        """The bytes."""
        return self.spool.read(self.offset, self.length)
