"""The gate for everything that is opened from elsewhere: where an address leads, or why it is refused.

Three kinds of places exist. A web address is only ever asked for by the crawler's fetch, which checks addresses and asks for
permission; storage (s3, gs, ...) is opened with fsspec; everything else is a path on this machine, opened by the system itself,
so that no part of a file's name can be taken for a protocol.
"""

from __future__ import annotations

import os
import posixpath
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urljoin

from handface.pipeline.contract.names.url_names import is_web

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Storage that a row of a list may name: reached with the worker's own settings, never at an address in the row.
LISTED_STORAGE = frozenset(("s3", "gs", "gcs", "hf", "az", "abfs", "memory"))
# What the user may name besides on the command line.
STORAGE = LISTED_STORAGE | {"s3a", "abfss", "adl", "oss", "hdfs"}
# What brings the packages of a storage.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "hf": "hf"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = re.compile(r"[A-Za-z][\w+.-]*::")


class Kind(StrEnum):
    """Who opens a place."""

    WEB = "web"
    STORAGE = "storage"
    LOCAL = "local"


@dataclass(frozen=True)
class Place:
    """An address that may be opened. address: a URL, a storage URI, or a path without `file://`."""

    kind: Kind
    address: str


class AddressRefusedError(ValueError):
    """An address that is never opened; the message says why and what to do."""


class UnknownSchemeError(AddressRefusedError):
    """An address whose scheme is neither web, storage nor file."""


def may_open(address: str, *, listing: str | None = None, anywhere: bool = False) -> Place:
    """Decide where an address leads, before anything is opened or resolved.

    Args:
        address: What the user gave, or a row of a list.
        listing: The list that holds the row; None for what the user gave. A relative row is relative to its list.
        anywhere: Let rows name local files that lie outside the list's folder.

    Raises:
        AddressRefusedError: Chained addresses (`simplecache::...`), unknown schemes, local files a list has no right to.
    """
    address = address.strip()
    if is_web(address):
        scheme, _, rest = address.partition("://")
        return Place(Kind.WEB, f"{scheme.lower()}://{rest}")
    found = _SCHEME.match(address)
    if _CHAIN.match(address) or (found and "::" in address):
        raise AddressRefusedError(f"{address}: chained addresses (::) are not opened; give the plain address")
    scheme = found[1].lower() if found else ""
    allowed = STORAGE if listing is None else LISTED_STORAGE
    if scheme in allowed:
        return Place(Kind.STORAGE, f"{scheme}://{address[len(scheme) + 3 :]}")
    if scheme not in ("", "file"):
        known = ", ".join(sorted({"http", "https", "file"} | allowed))
        raise UnknownSchemeError(f"{address}: scheme {scheme!r} is not opened; one of {known}, or copy the file here")
    path = address[len("file://") :] if found else address
    if "\0" in path:
        raise AddressRefusedError(f"{address!r}: a zero byte in a file's name")
    return Place(Kind.LOCAL, path) if listing is None else _listed(path, may_open(listing), anywhere)


def local_path(address: str) -> str:
    """The absolute path of a local file, for libraries that would take parts of a name for a protocol (FFmpeg).

    Raises:
        AddressRefusedError: It is not a local file.
    """
    place = may_open(address)
    if place.kind is not Kind.LOCAL:
        raise AddressRefusedError(f"{address}: only local files are opened here; download it first")
    return os.path.abspath(os.path.expanduser(place.address))  # noqa: PTH100, PTH111  (Path is slow, and a name stays as it is)


def open_place(place: Place) -> IO[bytes]:
    """Open a local or storage file for reading.

    Raises:
        AddressRefusedError: A web address; those are only fetched (`handface.pipeline.fetch`).
        OSError: As the system or the storage says.
    """
    if place.kind is Kind.LOCAL:
        # A name is never read as a URL.
        return Path(place.address).expanduser().open("rb")
    filesystem, path = filesystem_of(place.address)
    stream: IO[bytes] = filesystem.open(path, "rb")
    return stream


def open_file(address: str) -> IO[bytes]:
    """Open a local or storage file that the user named. Raises as `may_open` and `open_place`."""
    return open_place(may_open(address))


def filesystem_of(address: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a local or storage address, and the path in it.

    Raises:
        AddressRefusedError: Web and chained addresses, unknown schemes.
        ImportError: A package is missing; the message names the extra.
    """
    import fsspec
    from fsspec.implementations.local import LocalFileSystem

    place = may_open(address)
    if place.kind is Kind.WEB:
        raise AddressRefusedError(f"{address}: a web address is no folder or storage; download the files first")
    if place.kind is Kind.LOCAL:
        return LocalFileSystem(), LocalFileSystem._strip_protocol(place.address)
    scheme = place.address.partition("://")[0]
    try:
        filesystem, path = fsspec.core.url_to_fs(place.address)
    except ImportError as error:
        if scheme not in _EXTRAS:
            raise
        raise ImportError(f"{address}: pip install 'handface[{_EXTRAS[scheme]}]' ({error})") from error
    return filesystem, str(path)


def _listed(path: str, listing: Place, anywhere: bool) -> Place:
    """Where a path in a list leads: below the list's folder, unless `anywhere`.

    Relative rows may also name a sister folder (`../images/1.jpg` in `set/lists/a.csv`), as many data sets do.
    """
    if listing.kind is Kind.LOCAL:
        folder = os.path.abspath(os.path.dirname(listing.address))  # noqa: PTH100, PTH120  (millions of rows)
        target = os.path.normpath(os.path.join(folder, path))  # noqa: PTH118
        parent = os.path.dirname(folder)  # noqa: PTH120
        # Beside a folder of the root lies the whole machine.
        root = folder if os.path.isabs(path) or parent == "/" else parent  # noqa: PTH117
        if not anywhere and not target.startswith(root.rstrip("/") + "/"):
            raise AddressRefusedError(
                f"{path} lies outside the list's folder {folder}; move the list, or allow it (--any-file)"
            )
        return Place(Kind.LOCAL, target)
    if posixpath.isabs(path):
        if not anywhere:
            raise AddressRefusedError(f"{path}: a list that lies elsewhere names no files of this machine")
        return Place(Kind.LOCAL, path)
    if listing.kind is Kind.WEB:
        return Place(Kind.WEB, urljoin(listing.address, path))
    return Place(Kind.STORAGE, posixpath.join(posixpath.dirname(listing.address), path))
