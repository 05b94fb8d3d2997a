"""Opt-outs that come with an answer: X-Robots-Tag, robots and TDM meta tags, data-mining notices inside an image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from handface.pipeline.fetch.config import PRODUCT

REFUSALS = frozenset(("noai", "noimageai", "noindex", "noimageindex", "noml", "none"))
_DMI = re.compile(rb"DMI-PROHIBITED[A-Z-]*")  # IPTC/PLUS Data Mining values (iptc.org, Photo Metadata Standard 2023.1)


def header_refusal(headers: Mapping[str, str]) -> str | None:
    """The X-Robots-Tag directive or TDMRep header that forbids use, or None. Rules for other crawlers do not count."""
    values = headers.getall("X-Robots-Tag", []) if hasattr(headers, "getall") else [headers.get("X-Robots-Tag", "")]
    if word := tag_refusal(values):
        return f"X-Robots-Tag: {word}"
    if headers.get("TDM-Reservation", "").strip() == "1":
        return "TDM-Reservation: 1"
    return None


def tag_refusal(values: Iterable[str]) -> str | None:
    """The first forbidding directive of robots tag values such as `noai, noindex` or `otherbot: noindex`."""
    for value in values:
        ours = True
        for word in value.lower().split(","):
            agent, colon, directive = word.strip().rpartition(":")
            if colon and agent.strip() not in (
                "unavailable_after",
                "max-snippet",
                "max-image-preview",
                "max-video-preview",
            ):
                ours = agent.strip() in (PRODUCT, "*")  # an agent's name holds until the next one
            if ours and directive.strip() in REFUSALS:
                return directive.strip()
    return None


def image_refusal(data: bytes) -> str | None:
    """An IPTC/PLUS data-mining prohibition in the file's metadata, or None."""
    found = _DMI.search(data)
    return f"plus:DataMining {found[0].decode()}" if found else None
