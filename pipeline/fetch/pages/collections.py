"""Collections of openly licensed pictures: a search becomes image URLs with author, licence and page."""

from __future__ import annotations

import asyncio
import html
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.crawler import PAGE, Crawler

COMMONS_API = "https://commons.wikimedia.org/w/api.php"
OPENVERSE_API = "https://api.openverse.org/v1/images/"
_PAGE_SIZE, _OPENVERSE_PAGE = 50, 20  # entries per request that anonymous users get
_WIDTH = 1280
_TAG = re.compile(r"<[^>]+>")


class CollectionError(ConnectionError):
    """A collection's API did not answer as documented; the message names the request."""


def search_commons(query: str, config: HttpConfig, most: int, api: str = COMMONS_API) -> Iterator[SourceItem]:
    """Bitmap files of Wikimedia Commons that match a search, as inputs for the crawl.

    Of each the rendition of `_WIDTH` pixels (the API's `thumburl`), never the multi-megapixel original.
    MediaWiki API `generator=search` with `prop=imageinfo`. Raises CollectionError.
    """
    parameters = {"action": "query", "format": "json", "formatversion": "2", "generator": "search", "gsrnamespace": "6"}
    parameters |= {"gsrsearch": f"filetype:bitmap {query}", "gsrlimit": str(_PAGE_SIZE), "prop": "imageinfo"}
    parameters |= {"iiprop": "url|extmetadata|mime", "iiurlwidth": str(_WIDTH), "maxlag": "5"}
    going, given = dict[str, str](), 0
    with _Api(config) as client:
        while given < most:
            answer = client.get(f"{api}?{urlencode(parameters | going)}")
            pages = answer.get("query", {}).get("pages", [])
            for page in sorted(pages, key=lambda page: page.get("index", 0)):
                if given < most and (item := _commons_item(page)) is not None:
                    given += 1
                    yield item
            going = {name: str(value) for name, value in answer.get("continue", {}).items()}
            if not going:
                return


def search_openverse(query: str, config: HttpConfig, most: int, api: str = OPENVERSE_API) -> Iterator[SourceItem]:
    """Pictures that Openverse finds, as inputs for the crawl. Raises CollectionError."""
    given, number = 0, 1
    with _Api(config) as client:
        while given < most:
            parameters = {"q": query, "page": str(number), "page_size": str(_OPENVERSE_PAGE), "mature": "false"}
            answer = client.get(f"{api}?{urlencode(parameters)}")
            for result in answer.get("results", []):
                if given < most and result.get("url"):
                    given += 1
                    yield _openverse_item(result)
            number += 1
            if number > int(answer.get("page_count") or 0):
                return


class _Api:
    """JSON over the same safe and polite client as everything else; use as a context manager."""

    def __init__(self, config: HttpConfig) -> None:
        self._config = config

    def __enter__(self) -> _Api:
        self._runner = asyncio.Runner()
        self._crawler = self._runner.run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._crawler.close())
        self._runner.close()

    async def _start(self) -> Crawler:
        return Crawler(
            replace(self._config, consent=False)
        )  # an API is there for programs; robots.txt is about its pages

    def get(self, url: str) -> dict[str, Any]:
        answer = self._runner.run(self._crawler.fetch(url, PAGE))
        if answer.data is None:
            raise CollectionError(f"{url}: {answer.reason}: {answer.detail}")
        try:
            found = json.loads(answer.data)
        except ValueError as error:
            raise CollectionError(f"{url}: not JSON ({error})") from error
        if not isinstance(found, dict) or "error" in found:
            raise CollectionError(f"{url}: {str(found)[:300]}")
        return found


def _commons_item(page: dict[str, Any]) -> SourceItem | None:
    info = (page.get("imageinfo") or [{}])[0]
    url = info.get("thumburl") or info.get("url")
    if not url or not str(info.get("mime", "image/")).startswith("image/"):
        return None
    extra = {name: _plain(entry.get("value", "")) for name, entry in (info.get("extmetadata") or {}).items()}
    columns = {
        "page": info.get("descriptionurl"),
        "author": extra.get("Artist") or extra.get("Credit"),
        "licence": extra.get("LicenseShortName"),
        "licence_url": extra.get("LicenseUrl"),
        "title": page.get("title"),
        "attribution": extra.get("Attribution"),
        "collection": "Wikimedia Commons",
    }
    return _collected(url, columns)


def _openverse_item(result: dict[str, Any]) -> SourceItem:
    version = result.get("license_version") or ""
    columns = {
        "page": result.get("foreign_landing_url"),
        "author": result.get("creator"),
        "licence": f"{result.get('license', '')} {version}".strip(),
        "licence_url": result.get("license_url"),
        "title": result.get("title"),
        "attribution": result.get("attribution"),
        "collection": f"Openverse/{result.get('source') or result.get('provider') or ''}",
    }
    return _collected(result["url"], columns)


def _collected(url: str, columns: dict[str, Any]) -> SourceItem:
    return SourceItem(url, columns=tuple(sorted((name, str(value)) for name, value in columns.items() if value)))


def _plain(value: Any) -> str:
    """HTML of extmetadata -> text."""
    return " ".join(html.unescape(_TAG.sub(" ", str(value))).split())
