"""One input: where it is, how a list of them is written down, and the reasons why one is turned away."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any

from handface.pipeline.contract.names.url_names import canonical_url, copyable_url, is_web


class Reason(StrEnum):
    """Why there is no sample of an input. The value is what parts, reports and `--retry-failed` show."""

    # reading
    NOT_FOUND = "not_found"
    UNREADABLE = "unreadable"
    UNKNOWN_SCHEME = "unknown_scheme"
    MISSING_COLUMN = "missing_column"
    EMPTY = "empty"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"
    HTTP_ERROR = "http_error"
    NETWORK = "network"
    # asking the web
    BAD_URL = "bad_url"  # never asked for: another scheme, user info, odd host
    BAD_ADDRESS = "bad_address"  # leads to a private or otherwise closed address
    DNS = "dns"
    TLS = "tls"
    HTTP_403 = "http_403"  # also 401 and 451
    HTTP_404 = "http_404"  # also 410
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    REDIRECTS = "redirects"
    MOVED = "moved"  # to another owner's host, which asks in the next round
    ROBOTS = "robots"
    OPTOUT = "optout"
    BOMB = "bomb"  # a compressed transfer that grows out of proportion
    HOST_BUDGET = "host_budget"  # the host has had its time
    PAGE = "page"  # a page or sitemap, read for its links
    # decoding
    NOT_IMAGE = "not_image"
    HEIC = "heic"  # the package that reads it is not installed
    CORRUPT = "corrupt"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SMALL = "too_small"
    DUPLICATE = "duplicate"
    EXCLUDED = "excluded"
    # looking
    NOT_A_PHOTO = "not_a_photo"
    BLURRED = "blurred"
    NSFW = "nsfw"
    NO_FACE = "no_face"
    FACE_TOO_SMALL = "face_too_small"
    FACE_CUT = "face_cut"
    TOO_MANY_PEOPLE = "too_many_people"
    NO_HAND = "no_hand"
    HAND_FAR = "hand_far"
    HAND_OCCLUDES = "hand_occludes"
    DETECTOR_FAILED = "detector_failed"
    # synthesis
    NO_SCENE = "no_scene"
    FILMED = "filmed"  # a subject of a dataset in Decaf's layout, whose files lie beside the parts
    # anywhere
    FAILED = "failed"  # an error in a stage that this input alone causes; the detail says which

    @property
    def is_outcome(self) -> bool:
        """Whether the input did what it was for although no sample came of it: no rejection in a funnel."""
        return self in (Reason.PAGE, Reason.MOVED, Reason.FILMED)


@dataclass(frozen=True)
class SourceItem:
    """One input as a source lists it; small, picklable, and enough to read the bytes later on any worker.

    `uri` names the file, tar, video or URL; `member` the tar member or the video time (`t=1.500`) inside it;
    `offset`/`size` let a tar member be read without scanning; `columns` keeps a list's extra columns (licence, author, page).
    """

    uri: str
    member: str | None = None
    offset: int | None = None
    size: int | None = None
    columns: tuple[tuple[str, str], ...] = ()
    problem: Reason | None = None  # a list row that names no readable input still ends in a part, with this reason
    detail: str = ""

    @property
    def id(self) -> str:
        """First 16 hex of the sha256 of where the input is (uri and member); variants of a web address are one input."""
        uri = canonical_url(self.uri) if is_web(self.uri) else self.uri
        return hashlib.sha256(json.dumps([uri, self.member]).encode()).hexdigest()[:16]

    @property
    def origin(self) -> str:
        """Where on the web it is from: the `url` column that crawls write beside an image in a tar; otherwise the uri. Can be copied."""
        url = self.column("url") if self.offset is not None else None
        return copyable_url(url if url and is_web(url) else self.uri)

    @property
    def name(self) -> str:
        """How people see it: the uri, and the member after a `#`."""
        uri = copyable_url(self.uri)
        return uri if self.member is None else f"{uri}#{self.member}"

    def column(self, name: str) -> str | None:
        """The value of an extra column, or None."""
        return dict(self.columns).get(name)


def pack_items(items: Iterable[SourceItem]) -> bytes:
    """Inputs as gzipped JSON lines; equal inputs give equal bytes."""
    return compress_lines(map(item_line, items))


def unpack_items(blob: bytes) -> Iterator[SourceItem]:
    """The inverse of `pack_items`."""
    for line in gzip.decompress(blob).splitlines():
        yield line_item(line)


def item_line(item: SourceItem) -> str:
    """An input as one line of JSON."""
    return json.dumps(_row(item), separators=(",", ":"))


def line_item(line: str | bytes) -> SourceItem:
    """The inverse of `item_line`."""
    return _item(json.loads(line))


def compress_lines(lines: Iterable[str]) -> bytes:
    """Lines as one gzip member; equal lines give equal bytes (level 1, no time)."""
    return gzip.compress(("\n".join(lines) + "\n").encode(), compresslevel=1, mtime=0)


_FIELDS = tuple((f.name, None if f.default is MISSING else f.default) for f in fields(SourceItem))


def _row(item: SourceItem) -> dict[str, Any]:
    """The fields that differ from their defaults."""
    return {name: value for name, default in _FIELDS if (value := getattr(item, name)) != default}


def _item(row: dict[str, Any]) -> SourceItem:
    if "columns" in row:
        row["columns"] = tuple((name, value) for name, value in row["columns"])
    if "problem" in row:
        row["problem"] = Reason(row["problem"])
    return SourceItem(**row)
