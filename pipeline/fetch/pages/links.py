"""What a page leads to: its pictures, its links, and what it says about their use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from handface.pipeline.fetch.config import PRODUCT
from handface.pipeline.fetch.network.url import BadUrlError, FetchTarget, parse
from handface.pipeline.fetch.pages.srcset import srcset_best
from handface.pipeline.fetch.pages.tags import decode_page, start_tags
from handface.pipeline.fetch.permission.optout import REFUSALS, directives
from handface.pipeline.fetch.permission.robots import product_token
from handface.pipeline.fetch.permission.tdmrep import is_reserved

MAX_PAGE = 2 << 20  # bytes of a page; longer ones are not read
_META_IMAGES = ("og:image", "og:image:url", "og:image:secure_url", "twitter:image", "twitter:image:src")
_LAZY = ("data-src", "data-original", "data-lazy-src", "data-full")
_NO_LINK = ("data:", "javascript:", "mailto:", "#")


@dataclass
class PageLinks:
    """Absolute URLs in the order of the page, each once.

    Attributes:
        images: Pictures; none if their use is refused.
        pages: Links to follow; none if the page says nofollow.
        refusal: Why its pictures must not be used, or None.
        licence: Where its rel=license link leads, or None.
        follow: False for robots nofollow.
    """

    images: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    refusal: str | None = None
    licence: str | None = None
    follow: bool = True


def read_page(body: bytes, url: str, seconds: float = 5.0) -> PageLinks:
    """Read HTML as it comes, broken or not.

    Args:
        body: The page.
        url: Its address, which relative links are relative to.
        seconds: Time it may take.

    Raises:
        PageTooSlowError: It takes longer. Nothing else is raised for what a page says.
    """
    reader = _Reader(parse(url))
    for name, values in start_tags(decode_page(body), seconds):
        if handle := reader.handlers.get(name):
            handle(name, values)
    links = reader.links
    if links.refusal:
        links.images = []
    if not links.follow:
        links.pages = []
    return links


class _Reader:
    def __init__(self, page: FetchTarget) -> None:
        self.base = page
        self.links = PageLinks()
        self._seen: set[str] = set()
        self.handlers: dict[str, Callable[[str, dict[str, str]], None]] = {
            "meta": self._meta,
            "base": self._base,
            **dict.fromkeys(("img", "source", "amp-img"), self._picture),
            **dict.fromkeys(("a", "area", "link"), self._link),
        }

    def _base(self, _: str, values: dict[str, str]) -> None:
        if href := self._absolute(values.get("href", "")):
            self.base = parse(href)

    def _meta(self, _: str, values: dict[str, str]) -> None:
        name = (values.get("name") or values.get("property") or values.get("http-equiv") or "").strip().lower()
        content = values.get("content", "")
        if name in ("robots", "x-robots-tag") or product_token(name) == PRODUCT:
            words = set(directives([content]))
            if words & {"nofollow", "none"}:
                self.links.follow = False
            if refused := sorted(words & REFUSALS):
                self.links.refusal = f"meta robots: {refused[0]}"
        elif name == "tdm-reservation" and is_reserved(content):
            self.links.refusal = f"meta tdm-reservation: {content.strip()[:40]}"
        elif name in _META_IMAGES:
            self._add(self.links.images, content)

    def _picture(self, _: str, values: dict[str, str]) -> None:
        for name in ("srcset", "data-srcset"):
            if name in values and (best := srcset_best(values[name])):
                return self._add(self.links.images, best)
        for value in [values[name] for name in _LAZY if values.get(name)] or [values.get("src", "")]:
            self._add(self.links.images, value)
        return None

    def _link(self, tag: str, values: dict[str, str]) -> None:
        kinds = values.get("rel", "").lower().split()
        href = values.get("href", "")
        if "license" in kinds:
            self.links.licence = self._absolute(href)
        elif tag == "link":
            if "image_src" in kinds:
                self._add(self.links.images, href)
        elif "nofollow" not in kinds:
            self._add(self.links.pages, href)

    def _add(self, found: list[str], value: str) -> None:
        url = self._absolute(value)
        if url and url not in self._seen:
            self._seen.add(url)
            found.append(url)

    def _absolute(self, value: str) -> str | None:
        start = value.lstrip()[:11].lower()
        if not start or start.startswith(_NO_LINK):
            return None
        try:
            return self.base.join(value).url
        except BadUrlError:
            return None
