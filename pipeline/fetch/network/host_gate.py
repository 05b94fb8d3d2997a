"""When a host may be asked next: how many at once, how often, and how long to stay away after it says it is too much."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.client import FetchError


class HostGate:
    """One per host and process. Requests pass in the order in which they came."""

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(config.host_concurrency)
        self._next = 0.0  # monotonic seconds before which nobody asks
        self.interval = config.host_interval
        self.waiting = 0
        self.start_unit()

    def start_unit(self) -> None:
        """Give the host its time budget and another chance; what it said about pauses stays."""
        self._started: float | None = None
        self._failures = 0
        self._last: FetchError | None = None

    def ask_pause(self, seconds: float | None) -> None:
        """The crawl-delay of the host's robots.txt, which also means one request at a time."""
        if seconds and seconds > self._config.host_interval:
            self.interval = seconds
            self._slots = asyncio.Semaphore(1)

    def rest(self, seconds: float) -> None:
        """Nobody asks this host for so long."""
        self._next = max(self._next, time.monotonic() + seconds)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a slot and the host's interval. Raises FetchError when the host has had its time or keeps failing."""
        self.waiting += 1
        try:
            async with self._slots:
                self._check()
                while (pause := self._next - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                    self._check()
                now = time.monotonic()
                self._next = now + self.interval
                self._started = self._started or now
                yield
        finally:
            self.waiting -= 1

    def succeeded(self) -> None:
        """The host answered."""
        self._failures = 0

    def failed(self, error: FetchError) -> None:
        """The host did not answer, or not in a usable way."""
        self._failures += 1
        self._last = error

    def _check(self) -> None:
        if self._last is not None and self._failures >= self._config.host_failures:
            raise FetchError(
                self._last.reason, f"not asked: {self._failures} failures in a row, last: {self._last.detail}"
            )
        if self._started is not None and time.monotonic() - self._started > self._config.host_seconds:
            raise FetchError(Reason.HOST_BUDGET, f"its host has had {self._config.host_seconds:g} s of this unit")


def backoff(url: str, attempt: int, retry_after: float | None, config: HttpConfig) -> float:
    """Seconds before the next try: base * 2^(attempt-1) * (1 to 2, by the URL's hash), or what the server asked if longer."""
    digest = hashlib.sha256(f"{attempt} {url}".encode()).digest()
    jitter = 1 + int.from_bytes(digest[:4]) / 2**32
    return max(config.backoff * 2 ** (attempt - 1) * jitter, retry_after or 0.0)


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); None without a usable one."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value.strip()[:9])
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError):
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
