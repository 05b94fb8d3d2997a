"""A plain, correct http(s) fetch with caps on bytes, time and redirects; every failure is an answer with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.record import Reason

if TYPE_CHECKING:
    from aiohttp import ClientSession

_CHUNK = 1 << 16


@dataclass(frozen=True)
class HttpConfig:
    """Caps for one request."""

    max_bytes: int = 32 << 20
    """Bodies longer than this are cut off and rejected, counted after decompression."""
    timeout: float = 20.0
    """Seconds for the whole request, redirects and body included."""
    max_redirects: int = 5
    """Redirects followed."""
    concurrency: int = 16
    """Requests under way at once per worker."""
    user_agent: str = "handface/0.1 (dataset research; set a contact with --read.http.user-agent)"
    """Sent with every request; say who you are and how to reach you."""


@dataclass(frozen=True)
class Fetched:
    """A body, or the reason there is none."""

    data: bytes | None
    reason: Reason | None = None
    detail: str = ""


def fetch_all(urls: Sequence[str], config: HttpConfig = HttpConfig()) -> list[Fetched]:
    """Fetch many URLs at once, in order. Never raises for what a server or the network does."""
    return asyncio.run(_fetch_all(urls, config))


async def _fetch_all(urls: Sequence[str], config: HttpConfig) -> list[Fetched]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=config.concurrency, limit_per_host=min(4, config.concurrency))
    headers = {"User-Agent": config.user_agent, "Accept": "image/*,*/*;q=0.5"}
    # aiohttp's own total timeout would count the wait for a free connection; `_fetch` counts from the first byte sent.
    timeout = aiohttp.ClientTimeout(total=None)
    gate = asyncio.Semaphore(config.concurrency)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=timeout, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()
    ) as session:

        async def one(url: str) -> Fetched:
            async with gate:
                try:
                    return await asyncio.wait_for(_fetch(session, url, config), config.timeout)
                except TimeoutError:
                    return Fetched(None, Reason.TIMEOUT, f"no complete answer within {config.timeout:g} s")

        return await asyncio.gather(*(one(url) for url in urls))


async def _fetch(session: ClientSession, url: str, config: HttpConfig) -> Fetched:
    import aiohttp

    try:
        async with session.get(url, max_redirects=config.max_redirects) as answer:
            if answer.status != 200:
                return Fetched(None, Reason.HTTP_ERROR, f"status {answer.status}")
            if (answer.content_length or 0) > config.max_bytes:
                return Fetched(None, Reason.TOO_LARGE, f"{answer.content_length} bytes announced")
            body = bytearray()
            async for chunk in answer.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > config.max_bytes:
                    return Fetched(None, Reason.TOO_LARGE, f"more than {config.max_bytes} bytes")
            return Fetched(bytes(body))
    except aiohttp.TooManyRedirects:
        return Fetched(None, Reason.HTTP_ERROR, f"more than {config.max_redirects} redirects")
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError, ValueError) as error:
        return Fetched(None, Reason.NETWORK, f"not a URL that can be fetched: {error}")
    except (aiohttp.ClientError, OSError) as error:
        return Fetched(None, Reason.NETWORK, f"{type(error).__name__}: {error}")
