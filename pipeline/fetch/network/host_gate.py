"""When a host may be asked next: how many at once, how often, and how long to stay away after it says it is too much."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.client import FetchError

_FOR_EVER = 366 * 24 * 3600.0  # seconds; no longer rest is believed


class HostGate:
    """One per host and process. Requests pass in the order in which they came."""

    def __init__(self, config: HttpConfig) -> None:
        self._config = config
        self._slots = asyncio.Semaphore(config.host_concurrency)
        self._alone = asyncio.Lock()
        self._next = 0.0  # monotonic seconds before which nobody asks
        self._said: FetchError | None = None  # the answer that asked for the rest
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

    def rest(self, seconds: float, said: FetchError | None = None) -> None:
        """Nobody asks this host for so long.

        Args:
            seconds: From now on.
            said: What the host answered. If the rest is longer than `max_wait`, everybody who waits ends with its reason.
        """
        until = time.monotonic() + seconds
        if until > self._next:
            self._next, self._said = until, said

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a slot and the host's interval. Raises FetchError when the host has had its time or keeps failing."""
        self.waiting += 1
        try:
            async with self._slots, self._alone if self.interval > self._config.host_interval else nullcontext():
                self._check()
                while (pause := self._next - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                    self._check()
                now = time.monotonic()
                self._next, self._said = now + self.interval, None
                self._started = self._started or now
                yield
        finally:
            self.waiting -= 1

    @property
    def in_use(self) -> bool:
        """Whether somebody waits here, or the host's rest is not over."""
        return self.waiting > 0 or self._next > time.monotonic()

    def succeeded(self) -> None:
        """The host answered."""
        self._failures = 0

    def failed(self, error: FetchError) -> None:
        """The host did not answer, or not in a usable way."""
        self._failures += 1
        self._last = error

    def _check(self) -> None:
        pause = self._next - time.monotonic()
        if self._said is not None and pause > self._config.max_wait:
            detail = f"not asked: {self._said.detail}, the host asks for a rest of {pause:.0f} s more"
            raise FetchError(self._said.reason, detail, asked=False)
        if self._last is not None and self._failures >= self._config.host_failures:
            detail = f"not asked: {self._failures} failures in a row, last: {self._last.detail}"
            raise FetchError(self._last.reason, detail, asked=False)
        if self._started is not None and time.monotonic() - self._started > self._config.host_seconds:
            detail = f"not asked: its host has had {self._config.host_seconds:g} s of this unit"
            raise FetchError(Reason.HOST_BUDGET, detail, asked=False)


def backoff(url: str, attempt: int, retry_after: float | None, config: HttpConfig) -> float:
    """Seconds before the next try: base * 2^(attempt-1) * (1 to 2, by the URL's hash), or what the server asked if longer."""
    digest = hashlib.sha256(f"{attempt} {url}".encode()).digest()
    jitter = 1 + int.from_bytes(digest[:4]) / 2**32
    return max(config.backoff * 2 ** (attempt - 1) * jitter, retry_after or 0.0)


def retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header, a number or a date (RFC 9110, 10.2.3); None without a usable one. Never raises."""
    value = (value or "").strip()
    if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", value):
        return min(float(value[:20]), _FOR_EVER)
    try:
        when = parsedate_to_datetime(value)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError, AttributeError):
        return None
    return min(max(0.0, seconds), _FOR_EVER)
