"""Opt-outs that come with an answer: X-Robots-Tag, TDMRep headers, robots meta tags, data-mining notices inside an image."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Mapping

from handface.pipeline.fetch.config import PRODUCT
from handface.pipeline.fetch.permission.robots import EVERYBODY, forbids_training, product_token
from handface.pipeline.fetch.permission.tdmrep import is_reserved

REFUSALS = frozenset(("noai", "noimageai", "noindex", "noimageindex", "noml", "none"))
# Directives whose value follows a colon; every other name before a colon is a crawler's.
_VALUED = frozenset(("unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"))
_NAME = re.compile(r"\s*([a-z_*][\w.*/-]*)\s*:(.*)", re.DOTALL)
_DMI = re.compile(rb"DMI-PROHIBITED[A-Z-]*")  # IPTC/PLUS Data Mining values (iptc.org, Photo Metadata Standard 2023.1)
_MAX_NOTE = 1 << 20  # bytes of a compressed note inside a PNG


def header_refusal(headers: Mapping[str, str]) -> str | None:
    """The X-Robots-Tag directive, TDMRep or usage header that forbids use, or None. Rules for other crawlers do not count."""
    if word := tag_refusal(_values(headers, "X-Robots-Tag")):
        return f"X-Robots-Tag: {word}"
    for value in _values(headers, "TDM-Reservation"):
        if is_reserved(value):
            return f"TDM-Reservation: {value.strip()[:40]}"
    for name in ("Content-Usage", "Content-Signal"):
        for value in _values(headers, name):
            if forbids_training(value):
                return f"{name}: {value.strip()[:100]}"
    return None


def tag_refusal(values: Iterable[str]) -> str | None:
    """The first forbidding directive of robots tag values such as `noai, noindex` or `otherbot: noindex`."""
    return next((word for word in directives(values) if word in REFUSALS), None)


def directives(values: Iterable[str]) -> Iterator[str]:
    """The directives that are meant for us, in lower case, of X-Robots-Tag headers or robots meta tags.

    `[crawler:] directive [, directive ...]`, directives apart by commas, semicolons or spaces; a crawler's name holds until
    the next one. Values of `unavailable_after` (dates, with colons and commas) and of `max-image-preview` are no directives.
    """
    for value in values:
        ours = True
        for piece in re.split(r"[,;]", value.lower()):
            before = ""
            while (found := _NAME.match(piece)) and found[1] not in REFUSALS:
                piece = found[2]
                if found[1] in _VALUED:
                    before = found[1]
                    break
                ours = product_token(found[1]) in (PRODUCT, EVERYBODY)
            for word in re.split(r"[\s:=\"']+", piece.strip()):
                if ours and word and before not in _VALUED:
                    yield word
                before = word


def image_refusal(data: bytes) -> str | None:
    """An IPTC/PLUS data-mining prohibition in the file's metadata, or None."""
    found = _DMI.search(data)
    if found is None and data[:8] == b"\x89PNG\r\n\x1a\n":
        found = next((hit for note in _compressed_notes(data) if (hit := _DMI.search(note))), None)
    return f"plus:DataMining {found[0].decode()}" if found else None


def _values(headers: Mapping[str, str], name: str) -> list[str]:
    """All values of a header that may come several times."""
    if hasattr(headers, "getall"):
        return list(headers.getall(name, []))
    return [headers[name]] if name in headers else []


def _compressed_notes(data: bytes) -> Iterator[bytes]:
    """The compressed texts of a PNG (zTXt, iTXt), where a notice cannot be seen in the bytes."""
    at = 8
    while at + 12 <= len(data):
        length, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        at += 12 + length
        if name in (b"zTXt", b"iTXt"):
            start = re.search(rb"\x78[\x01\x5e\x9c\xda]", body)
            if start:
                try:
                    yield zlib.decompressobj().decompress(body[start.start() :], _MAX_NOTE)
                except zlib.error:
                    continue
        elif name == b"IEND":
            return
