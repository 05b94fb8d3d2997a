"""What a page leads to: its pictures, its links, and what it says about their use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

from handface.pipeline.fetch.network.url import BadUrlError, Target, parse
from handface.pipeline.fetch.permission.optout import tag_refusal

_META_IMAGES = ("og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src")
_LAZY = ("data-src", "data-original", "data-lazy-src", "data-full")
_CANDIDATE = re.compile(r"\s*([^\s,]\S*?)(?:\s+([\d.]+)([wx]))?\s*(?:,\s|,$|$)")
_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w-]{1,40})""", re.IGNORECASE)


@dataclass
class PageLinks:
    """Absolute URLs in the order of the page, each once. refusal: why its pictures must not be used, or None."""

    images: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    refusal: str | None = None
    licence: str | None = None
    follow: bool = True  # robots nofollow, also of a single link, is honoured


def read_page(body: bytes, url: str) -> PageLinks:
    """Parse HTML as it comes, broken or not. Never raises for what a page says."""
    reader = _Reader(parse(url))
    charset = _META_CHARSET.search(body[:4096])
    try:
        text = body.decode(charset[1].decode() if charset else "utf-8", "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    reader.feed(text)
    reader.close()
    links = reader.links
    if links.refusal:
        links.images = []
    if not links.follow:
        links.pages = []
    return links


def srcset_best(value: str) -> str | None:
    """The URL of the widest or densest candidate of a srcset (HTML, 4.8.4.2.1)."""
    found = [(float(match[2] or 1), match[1]) for match in _CANDIDATE.finditer(value[:20_000])]
    return max(found, key=lambda pair: pair[0])[1] if found else None


class _Reader(HTMLParser):
    def __init__(self, page: Target) -> None:
        super().__init__(convert_charrefs=True)
        self.base = page
        self.links = PageLinks()
        self._seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        if tag == "meta":
            self._meta(values)
        elif tag == "base" and (href := self._absolute(values.get("href", ""))):
            self.base = parse(href)
        elif tag in ("img", "source"):
            self._picture(values)
        elif tag in ("a", "area", "link"):
            self._link(tag, values)

    def _meta(self, values: dict[str, str]) -> None:
        name = (values.get("name") or values.get("property") or "").lower()
        content = values.get("content", "")
        if name in ("robots", "handface"):
            if "nofollow" in content.lower() or "none" in content.lower():
                self.links.follow = False
            if word := tag_refusal([content]):
                self.links.refusal = f"meta robots: {word}"
        elif name == "tdm-reservation" and content.strip() == "1":
            self.links.refusal = "meta tdm-reservation: 1"
        elif name in _META_IMAGES:
            self._add(self.links.images, content)

    def _picture(self, values: dict[str, str]) -> None:
        lazy = [values[name] for name in _LAZY if name in values]
        for name in ("srcset", "data-srcset"):
            if name in values and (best := srcset_best(values[name])):
                self._add(self.links.images, best)
                return
        for value in lazy or [values.get("src", "")]:
            self._add(self.links.images, value)

    def _link(self, tag: str, values: dict[str, str]) -> None:
        kinds = values.get("rel", "").lower().split()
        if "license" in kinds:
            self.links.licence = self._absolute(values.get("href", ""))
        elif tag == "link":
            if "image_src" in kinds:
                self._add(self.links.images, values.get("href", ""))
        elif "nofollow" not in kinds:
            self._add(self.links.pages, values.get("href", ""))

    def _add(self, found: list[str], value: str) -> None:
        url = self._absolute(value)
        if url and url not in self._seen:
            self._seen.add(url)
            found.append(url)

    def _absolute(self, value: str) -> str | None:
        if not value.strip() or value.lstrip()[:11].lower().startswith(("data:", "javascript:", "mailto:", "#")):
            return None
        try:
            return self.base.join(value).url
        except BadUrlError:
            return None
