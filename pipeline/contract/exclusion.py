"""Lists of what must stay out: tombstones of a takedown, refusals found by a recheck, copies. Parquet files, any of six columns."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import load_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

# a list's column -> what of a picture it names; `dropped` is how `handface dedupe` calls the key
ORIGINAL_SHA256 = (
    "original_sha256"  # of the file as its owner has it, before metadata was taken out or pixels encoded anew
)
COLUMNS = {
    "key": "key",
    "dropped": "key",
    "sha256": "sha256",
    ORIGINAL_SHA256: "sha256",
    "phash": "phash",
    "uri": "uri",
}
RADIUS = 4  # bits: a re-encoded or resized copy of what was taken down


class ExclusionError(ValueError):
    """A list cannot be used; the message names the file and says what it should hold."""


@dataclass(frozen=True)
class Exclusion:
    """One list, read. sha256: of stored and of original files alike.  phash: (M,) uint64, 0 left out."""

    uri: str
    keys: frozenset[str]
    sha256: frozenset[str]
    uris: frozenset[str]
    phash: NDArray[np.uint64]

    @classmethod
    def read(cls, uri: str) -> Exclusion:
        """Read a list by path or fsspec URI. Raises ExclusionError if it is no parquet file or has none of the columns."""
        import pyarrow as pa

        try:
            table = load_table(_bytes(uri))
        except (OSError, pa.ArrowInvalid) as error:
            raise ExclusionError(f"{uri}: not a readable parquet file ({error})") from error
        named: dict[str, set[str]] = {"key": set(), "sha256": set(), "phash": set(), "uri": set()}
        found = [name for name in table.column_names if name in COLUMNS]
        if not found:
            raise ExclusionError(f"{uri}: has none of the columns {', '.join(COLUMNS)}")
        for name in found:
            named[COLUMNS[name]] |= {value for value in table[name].to_pylist() if value}
        try:
            phash = np.array(sorted(int(value, 16) for value in named["phash"]), np.uint64)
        except ValueError as error:
            raise ExclusionError(f"{uri}: column phash must hold 16 hex digits ({error})") from error
        keys, sha256, uris = (frozenset(named[name]) for name in ("key", "sha256", "uri"))
        return cls(uri, keys, sha256, uris, phash[phash != 0])

    def names(self, uri: str, sha256: Set[str], phash: int, key: str | None = None) -> bool:
        """Whether the list names this picture, by address, a checksum, key, or a perceptual hash within 4 bits."""
        if uri in self.uris or sha256 & self.sha256 or key in self.keys:
            return True
        return bool(phash and len(self.phash) and np.bitwise_count(self.phash ^ np.uint64(phash)).min() <= RADIUS)


def digest(uris: Sequence[str]) -> str:
    """sha256 over the lists' contents, so that a run knows which it was made with; "" without lists. Raises ExclusionError."""
    total = hashlib.sha256()
    for uri in uris:
        try:
            total.update(hashlib.sha256(_bytes(uri)).digest())
        except OSError as error:
            raise ExclusionError(f"{uri}: cannot be read ({error})") from error
    return total.hexdigest() if uris else ""


def _bytes(uri: str) -> bytes:
    folder, _, name = uri.rpartition("/")
    return Folder(folder or ".").read(name)
