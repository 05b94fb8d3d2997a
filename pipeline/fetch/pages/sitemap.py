"""Sitemaps (sitemaps.org 0.9): XML, its image extension, indexes of sitemaps, plain text; gzipped or not."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from xml.etree import ElementTree

MAX_BYTES = 50 << 20  # the protocol's limit for an unpacked sitemap
MAX_ENTRIES = 50_000  # and for its entries


class BadSitemapError(ValueError):
    """A sitemap that breaks the protocol."""


@dataclass
class Sitemap:
    """What a sitemap lists. images: (URL, page it stands on, licence or None)."""

    pages: list[str] = field(default_factory=list)
    images: list[tuple[str, str, str | None]] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)


def read_sitemap(body: bytes) -> Sitemap:
    """Parse a sitemap. Raises BadSitemapError for what is none, too large, or declares entities."""
    if body[:2] == b"\x1f\x8b":
        body = _unpacked(body)
    if not body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        lines = (line.strip() for line in body.decode("utf-8", "replace").splitlines())
        return Sitemap(pages=[line for line in lines if line.startswith(("http://", "https://"))][:MAX_ENTRIES])
    if b"<!DOCTYPE" in body[:4096] or b"<!ENTITY" in body:
        raise BadSitemapError("it declares entities")
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise BadSitemapError(f"not XML: {error}") from error
    found = Sitemap()
    for entry in list(root)[:MAX_ENTRIES]:
        location = _text(entry, "loc")
        if not location:
            continue
        if _name(entry) == "sitemap":
            found.sitemaps.append(location)
        elif _name(entry) == "url":
            found.pages.append(location)
            for image in (child for child in entry if _name(child) == "image"):
                if url := _text(image, "loc"):
                    found.images.append((url, location, _text(image, "license")))
    return found


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


def _text(element: ElementTree.Element, name: str) -> str | None:
    for child in element:
        if _name(child) == name and child.text:
            return child.text.strip()
    return None
