"""Sitemaps (sitemaps.org 0.9): XML, its image extension, indexes of sitemaps, plain text; gzipped or not."""

from __future__ import annotations

import codecs
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

from handface.pipeline.contract.names.url_names import is_web
from handface.pipeline.contract.text import UnreadableTextError, decode_text, text_encoding

MAX_BYTES = 50 << 20  # the protocol's limit for an unpacked sitemap
MAX_ENTRIES = 50_000  # and for its entries
_PIECE = 1 << 16
_MAX_DEPTH, _MAX_ELEMENTS = 20, 20_000
_ENCODING = re.compile(rb"""^\s*<\?xml[^>]{0,100}encoding\s*=\s*["']([\w-]{1,40})""")
_ENTITIES = re.compile(r"<!(?:DOCTYPE|ENTITY)", re.IGNORECASE)


class BadSitemapError(ValueError):
    """A sitemap that breaks the protocol."""


@dataclass
class Sitemap:
    """What a sitemap lists.

    Attributes:
        pages: URLs of pages.
        images: (URL, page it stands on, licence or None).
        sitemaps: URLs of further sitemaps, where it is an index.
    """

    pages: list[str] = field(default_factory=list)
    images: list[tuple[str, str, str | None]] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


def read_sitemap(body: bytes, seconds: float = 20.0) -> Sitemap:
    """Read a sitemap; where its XML breaks, what stands before that counts.

    Raises:
        BadSitemapError: It is none, too large, declares entities, or takes longer than `seconds`.
    """
    text = _text(_unpacked(body) if body[:2] == b"\x1f\x8b" else body).lstrip("\ufeff \t\r\n")
    if not text.startswith("<"):
        lines = (line.strip() for line in text.splitlines())
        return Sitemap(pages=[line for line in lines if is_web(line)][:MAX_ENTRIES])
    if _ENTITIES.search(text):
        raise BadSitemapError("it declares a document type or entities")
    found, until = Sitemap(), time.monotonic() + seconds
    try:
        for count, entry in enumerate(_entries(text, until), start=1):
            _entry(entry, found)
            if count == MAX_ENTRIES:
                break
    except ElementTree.ParseError as error:
        if not (found.pages or found.sitemaps):
            raise BadSitemapError(f"not XML: {error}") from error
    return found


def _entries(text: str, until: float) -> Iterator[ElementTree.Element]:
    """The root's children one at a time, each forgotten after use. Raises ParseError, BadSitemapError."""
    parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(("start", "end"))
    depth = size = 0
    root: ElementTree.Element | None = None
    for start in range(0, len(text), _PIECE):
        parser.feed(text[start : start + _PIECE])
        for happened in parser.read_events():
            event, element = happened[0], happened[-1]
            assert isinstance(element, ElementTree.Element)
            root = element if root is None else root
            depth += 1 if event == "start" else -1
            size += 1
            if depth > _MAX_DEPTH or size > _MAX_ELEMENTS:
                raise BadSitemapError(f"an entry of more than {_MAX_ELEMENTS} elements or {_MAX_DEPTH} levels")
            if event == "end" and depth == 1:
                yield element
                root.clear()
                size = 0
        if time.monotonic() > until:
            raise BadSitemapError("it takes too long to read")
    parser.close()


def _entry(entry: ElementTree.Element, found: Sitemap) -> None:
    location = _child(entry, "loc")
    if not location:
        return
    if _name(entry) == "sitemap":
        found.sitemaps.append(location)
    elif _name(entry) == "url":
        found.pages.append(location)
        for image in (child for child in entry if _name(child) == "image"):
            if url := _child(image, "loc"):
                found.images.append((url, location, _child(image, "license")))


def _text(body: bytes) -> str:
    """By its byte order mark, else by what its XML declaration says."""
    declared = _ENCODING.match(body[:200])
    try:
        if text_encoding(body) == "utf-8" and declared:
            name = codecs.lookup(declared[1].decode()).name
            if name.startswith(("iso8859", "cp12", "ascii")):
                return body.decode(name, "replace")
        return decode_text(body)
    except (UnreadableTextError, LookupError) as error:
        raise BadSitemapError(str(error)) from error


def _unpacked(body: bytes) -> bytes:
    inflater = zlib.decompressobj(31)
    try:
        plain = inflater.decompress(body, MAX_BYTES + 1)
    except zlib.error as error:
        raise BadSitemapError(f"broken gzip: {error}") from error
    if len(plain) > MAX_BYTES:
        raise BadSitemapError(f"more than {MAX_BYTES} bytes unpacked")
    return plain


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _child(element: ElementTree.Element, name: str) -> str | None:
    for child in element:
        if _name(child) == name and child.text:
            return child.text.strip()
    return None
