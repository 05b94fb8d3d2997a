"""The crawl's safe and polite fetch for whoever has a few URLs: answers in order, hosts and permissions remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from handface.pipeline.fetch.config import HttpConfig

if TYPE_CHECKING:
    from handface.pipeline.fetch.crawler import Crawler, Fetched

__all__ = ["Fetcher", "HttpConfig", "fetch_all"]


class Fetcher:
    """Keeps connections, robots.txt and the hosts' pauses from call to call. Close it, or use it as a context manager.

    Redirects to other hosts are followed. Limits per host hold within this object only; `handface crawl` keeps them over all workers.
    """

    def __init__(self, config: HttpConfig = HttpConfig()) -> None:
        self.config = config
        self._runner = asyncio.Runner()
        self._crawler: Crawler | None = None

    def start_unit(self) -> None:
        """Give hosts their time budget afresh, and another chance to those that failed."""
        if self._crawler is not None:
            self._crawler.start_unit()

    def fetch(
        self, urls: Sequence[str], role: str = "image", spans: Sequence[tuple[int, int] | None] | None = None
    ) -> list[Fetched]:
        """Fetch many URLs at once, in order. Never raises for what a URL, a server or the network does.

        Args:
            urls: Web addresses.
            role: What is expected, as of `Crawler.fetch`.
            spans: (start, end) of the bytes that are wanted of each, None for all of it.
        """
        return self._runner.run(self._fetch(urls, role, spans or [None] * len(urls)))

    async def _fetch(self, urls: Sequence[str], role: str, spans: Sequence[tuple[int, int] | None]) -> list[Fetched]:
        if self._crawler is None:
            from handface.pipeline.fetch.crawler import Crawler

            self._crawler = Crawler(self.config)
        crawler = self._crawler
        pairs = zip(urls, spans, strict=True)
        return await asyncio.gather(*(crawler.fetch(url, "file" if span else role, span=span) for url, span in pairs))

    def close(self) -> None:
        """Close connections and the event loop."""
        if self._crawler is not None:
            self._runner.run(self._crawler.close())
            self._crawler = None
        self._runner.close()

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fetch_all(urls: Sequence[str], config: HttpConfig = HttpConfig()) -> list[Fetched]:
    """Fetch once, remembering nothing."""
    with Fetcher(config) as fetcher:
        return fetcher.fetch(urls)
