"""Lists of what must stay out: tombstones of a takedown, refusals found by a recheck, copies. Parquet files, any of the columns below."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.contract.images.phash import parse_hash
from handface.pipeline.contract.names.url_names import url_name
from handface.pipeline.contract.storage import Folder
from handface.pipeline.contract.tables import load_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

# of the file as its owner has it, before metadata was taken out or pixels encoded anew
ORIGINAL_SHA256 = "original_sha256"
# a list's column -> what of a picture it names; `dropped` is how `handface dedupe` calls the key
COLUMNS = {
    "key": "key",
    "dropped": "key",
    "sha256": "sha256",
    ORIGINAL_SHA256: "sha256",
    "phash": "phash",
    "uri": "uri",
    "url": "uri",
}
# bits: a re-encoded or resized copy of what was taken down
RADIUS = 4


class ExclusionError(ValueError):
    """A list cannot be used; the message names the file and says what it should hold."""


@dataclass(frozen=True)
class Exclusion:
    """One list, read.

    sha256: of stored and of original files alike.  uris: names of addresses (`url_name`).  phash: (M,) uint64, 0 left out.
    unkeyed: rows that name no sample by its key, which is all that shards tell.
    """

    uri: str
    keys: frozenset[str]
    sha256: frozenset[str]
    uris: frozenset[str]
    phash: NDArray[np.uint64]
    unkeyed: int = 0

    @classmethod
    def read(cls, uri: str) -> Exclusion:
        """Read a list by path or fsspec URI.

        Keys and checksums may be in capitals or raw bytes, hashes text or whole numbers, addresses in any spelling.

        Raises:
            ExclusionError: It is no parquet file, has none of the columns, or one of them holds something else.
        """
        import pyarrow as pa

        try:
            table = load_table(_bytes(uri))
        except FileNotFoundError as error:
            raise ExclusionError(f"{uri}: no such file") from error
        except (OSError, pa.ArrowInvalid) as error:
            raise ExclusionError(f"{uri}: not a readable parquet file ({error})") from error
        found = [name for name in table.column_names if name in COLUMNS]
        if not found:
            raise ExclusionError(f"{uri}: has none of the columns {', '.join(COLUMNS)}")
        parsers = {"key": parse_hex, "sha256": parse_hex, "phash": parse_hash, "uri": _parse_address}
        named: dict[str, set[Any]] = {kind: set() for kind in parsers}
        keyed = np.zeros(len(table), bool)
        for name in found:
            kind = COLUMNS[name]
            values = table[name].to_pylist()
            given = [value not in (None, "", b"") for value in values]
            try:
                named[kind] |= {parsers[kind](value) for value, there in zip(values, given, strict=True) if there}
            except (ValueError, TypeError) as error:
                raise ExclusionError(f"{uri}: column {name}: {error}") from error
            if kind == "key":
                keyed |= np.array(given, bool)
        phash = np.array(sorted(named["phash"] - {0}), np.uint64)
        keys, sums, uris = (frozenset(named[kind]) for kind in ("key", "sha256", "uri"))
        return cls(uri, keys, sums, uris, phash, int((~keyed).sum()))

    def __len__(self) -> int:
        """How many names it holds."""
        return len(self.keys) + len(self.sha256) + len(self.uris) + len(self.phash)

    def names(self, uri: str, sha256: Set[str], phash: int, key: str | None = None, also: Iterable[str] = ()) -> bool:
        """Whether the list names this picture.

        Args:
            uri: its address, in any spelling.
            sha256: checksums of the file as stored and as its owner has it.
            phash: perceptual hash, 0 where it is unknown; the list's hashes within 4 bits name it.
            key: of its sample.
            also: further names of its address (`url_names.picture_names`).
        """
        if sha256 & self.sha256 or key in self.keys:
            return True
        if self.uris and (url_name(uri) in self.uris or not self.uris.isdisjoint(also)):
            return True
        return bool(phash and len(self.phash) and np.bitwise_count(self.phash ^ np.uint64(phash)).min() <= RADIUS)


def parse_hex(value: str | bytes) -> str:
    """A key or checksum as lower-case text; raw bytes of a checksum become hex digits."""
    if isinstance(value, bytes):
        return value.hex() if len(value) in (8, 32) else value.decode("ascii").strip().lower()
    if not isinstance(value, str):
        raise TypeError(f"expected text or bytes, found {value!r}")
    return value.strip().lower()


def _parse_address(value: str | bytes) -> str:
    if not isinstance(value, str | bytes):
        raise TypeError(f"expected addresses, found {value!r}")
    return url_name(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)


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
