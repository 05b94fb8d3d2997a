"""Names to addresses: resolved in threads, cached, checked, and handed to the connection so that nothing asks twice."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from aiohttp.abc import AbstractResolver, ResolveResult

from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.address import parse_ranges, refusal

Lookup = Callable[[str], Awaitable[list[str]]]
_THREADS = 32
_KEEP, _KEEP_FAILURE = 300.0, 30.0  # seconds; getaddrinfo tells no lifetime
_LIMIT = 100_000  # names remembered


class ForbiddenAddressError(OSError):
    """A name leads to an address that must not be connected to."""


class UnknownNameError(OSError):
    """A name cannot be resolved."""


class CheckedResolver(AbstractResolver):
    """The resolver of the HTTP client. The client connects to the very addresses returned here, so a name that changes its
    mind between check and connection (DNS rebinding) gains nothing. One refused address condemns the name.
    """

    def __init__(self, config: HttpConfig, lookup: Lookup | None = None) -> None:
        self._lookup = lookup or self._system
        self._fixed = config.resolve
        self._opened = parse_ranges(config.open_ranges)
        self._threads: ThreadPoolExecutor | None = None
        self._cache: dict[str, tuple[float, asyncio.Future[list[str]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The checked addresses of a host. Raises UnknownNameError or ForbiddenAddressError."""
        found = []
        for address in await self.addresses(host):
            kind = socket.AF_INET6 if ":" in address else socket.AF_INET
            if family in (socket.AF_UNSPEC, kind):
                flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
                found.append(ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=flags))
        if not found:
            raise UnknownNameError(f"{host} has no address of family {family.name}")
        return found

    async def addresses(self, host: str) -> list[str]:
        """All addresses of a host, checked; asked once however many wait for it."""
        until, answer = self._cache.get(host, (0.0, None))
        if answer is None or until < time.monotonic():
            if len(self._cache) >= _LIMIT:
                self._cache.clear()
            answer = asyncio.ensure_future(self._ask(host))
            self._cache[host] = time.monotonic() + _KEEP, answer
            answer.add_done_callback(lambda done: self._forget_failure(host, done))
        return await asyncio.shield(answer)

    async def _ask(self, host: str) -> list[str]:
        fixed = self._fixed.get(host)
        try:
            addresses = [fixed] if fixed else await self._lookup(host)
        except (OSError, UnicodeError) as error:
            raise UnknownNameError(f"{host}: {error}") from error
        if not addresses:
            raise UnknownNameError(f"{host} has no address")
        for address in addresses:
            if why := refusal(address, self._opened):
                raise ForbiddenAddressError(f"{host} is {address}: {why}")
        return addresses

    def _forget_failure(self, host: str, done: asyncio.Future[list[str]]) -> None:
        if not done.cancelled() and done.exception() is not None:
            self._cache[host] = time.monotonic() + _KEEP_FAILURE, done

    async def _system(self, host: str) -> list[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="dns")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def close(self) -> None:
        """Let the threads go."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
