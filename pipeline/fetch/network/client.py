"""One request to one URL, nothing followed: connection reuse, pinned addresses, and caps on everything while it arrives."""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from aiohttp.client_exceptions import ClientConnectorDNSError
from yarl import URL

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.address import parse_ranges, refusal
from handface.pipeline.fetch.network.resolver import CheckedResolver, ForbiddenAddressError, Lookup, UnknownNameError
from handface.pipeline.fetch.network.url import FetchTarget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from multidict import CIMultiDictProxy

REDIRECTS = (301, 302, 303, 307, 308)  # statuses whose Location is the next address
# Sees headers and first bytes before the rest is read; may refuse, or say how long the body may become.
Check = Callable[["Mapping[str, str]", bytes], int | None]
_CHUNK = 1 << 16
_MAX_IDLE = 256  # connections kept for later; the usual limit of a process is 1,024 descriptors
_MAX_HEADER, _MAX_HEADERS = 8190, 100  # bytes per header line, header lines
_FREE_EXPANSION = 1 << 20  # bytes below which the ratio does not matter
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
# Codings that exist; a body in one that was not asked for cannot be read.
_CODINGS = {*_WBITS, "br", "zstd", "compress", "x-compress", "dcb", "dcz"}


class FetchError(Exception):
    """A request that brought nothing.

    Attributes:
        reason: Why, as a part shows it.
        detail: The same in words.
        retry_after: Seconds that the server asks to wait, where it says so.
        status: Of the answer, if there was one that counts.
        target: Who gave it.
        asked: False if nothing was sent because of what came before.
        reached: False if the site's permission files could not be asked for.
        answered: The server did answer, and its answer's body was of no use.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        retry_after: float | None = None,
        *,
        status: int | None = None,
        target: FetchTarget | None = None,
        asked: bool = True,
        reached: bool = True,
    ) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.retry_after = reason, detail, retry_after
        self.status, self.target, self.asked, self.reached = status, target, asked, reached
        self.answered = False


@dataclass(frozen=True)
class HttpAnswer:
    """Status, headers (case-insensitive) and body of one request; the body is read for status 200 only."""

    target: FetchTarget
    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class _Connector(aiohttp.TCPConnector):
    """Keeps a limited number of idle connections: aiohttp's own limit counts those in use, and a crawl meets many hosts."""

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        while sum(map(len, self._conns.values())) > _MAX_IDLE:
            # Hosts stand in the order in which they were last left.
            for idle, _ in self._conns.pop(next(iter(self._conns))):
                idle.close()


class Client:
    """An HTTP session whose connections go to checked addresses only. Use inside a running event loop; close at the end."""

    def __init__(self, config: HttpConfig, lookup: Lookup | None = None) -> None:
        self.config = config
        self._opened = parse_ranges(config.open_ranges)
        connector = _Connector(
            # The hosts' gates and the crawler's own gate limit how many are in use.
            limit=0,
            use_dns_cache=False,
            resolver=CheckedResolver(config, lookup),
            keepalive_timeout=30,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": config.user_agent, "Accept-Encoding": "gzip, deflate"},
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,  # a proxy would resolve names itself, unchecked
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
            max_headers=_MAX_HEADERS,
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def get(
        self,
        target: FetchTarget,
        *,
        accept: str = "image/*,*/*;q=0.5",
        max_bytes: int | None = None,
        check: Check = lambda headers, start: None,
        method: str = "GET",
        span: tuple[int, int] | None = None,
    ) -> HttpAnswer:
        """Ask once.

        Args:
            target: Where.
            accept: Media types.
            max_bytes: Of the body; the config's cap without.
            check: Sees headers and the first bytes before the rest is read; may raise FetchError or lower max_bytes.
            method: GET or HEAD.
            span: (start, end) of the bytes wanted; the answer's status is 206 then, or 200 with the whole.

        Raises:
            FetchError: For everything that a server, the network or the address does wrong.
        """
        if target.literal and (why := refusal(target.host, self._opened)):
            raise FetchError(Reason.BAD_ADDRESS, f"{target.host}: {why}")
        try:
            async with asyncio.timeout(self.config.timeout):
                return await self._get(
                    target, _headers(accept, span), max_bytes or self.config.max_bytes, check, method
                )
        except TimeoutError as error:
            raise FetchError(Reason.TIMEOUT, f"no complete answer within {self.config.timeout:g} s") from error
        except (aiohttp.ClientError, zlib.error, OSError, ValueError) as error:
            raise _translated(error) from error

    async def _get(
        self,
        target: FetchTarget,
        headers: dict[str, str],
        max_bytes: int,
        check: Check,
        method: str,
    ) -> HttpAnswer:
        url = URL(target.url, encoded=True)
        async with self._session.request(method, url, allow_redirects=False, headers=headers) as answer:
            wanted = answer.status == 200 or (answer.status == 206 and "Range" in headers)
            if not wanted or method == "HEAD":
                if answer.status == 200:
                    check(answer.headers, b"")
                return HttpAnswer(target, answer.status, answer.headers)
            try:
                return HttpAnswer(target, answer.status, answer.headers, await self._body(answer, max_bytes, check))
            except FetchError as error:
                error.answered = True
                raise
            except (aiohttp.ClientError, zlib.error, OSError, ValueError) as error:
                failure = _translated(error)
                failure.answered = True
                raise failure from error

    async def _body(self, answer: aiohttp.ClientResponse, max_bytes: int, check: Check) -> bytes:
        if (answer.content_length or 0) > max_bytes:
            raise FetchError(Reason.TOO_LARGE, f"{answer.content_length} bytes announced")
        # Pieces of one size: many large buffers that grow side by side leave the heap full of holes.
        pieces, size, checked = list[bytes](), 0, False
        async for chunk in _decompressed(answer, self.config.max_expansion):
            pieces.append(chunk)
            size += len(chunk)
            if not checked and size >= 64:
                checked = True
                max_bytes = min(max_bytes, check(answer.headers, b"".join(pieces)[:64]) or max_bytes)
            if size > max_bytes:
                raise FetchError(Reason.TOO_LARGE, f"more than {max_bytes} bytes")
        body = b"".join(pieces)
        if not checked:
            check(answer.headers, body[:64])
        return body


async def _decompressed(answer: aiohttp.ClientResponse, max_expansion: float) -> AsyncIterator[bytes]:
    """The body in pieces of at most 64 kB, its transfer coding undone under a cap on how much it may grow."""
    encoding = _encoding(answer.headers)
    if encoding is None:
        async for chunk in answer.content.iter_chunked(_CHUNK):
            yield chunk
        return
    if encoding not in _WBITS:
        raise FetchError(Reason.NETWORK, f"content encoding {encoding[:40]!r} was not asked for")
    inflater, first, taken, given = zlib.decompressobj(_WBITS[encoding]), True, 0, 0
    async for chunk in answer.content.iter_chunked(_CHUNK):
        taken += len(chunk)
        if first and encoding == "deflate" and chunk[0] & 0x0F != 8:  # some servers send it without the zlib header
            inflater = zlib.decompressobj(-15)
        first = False
        while chunk:
            piece = inflater.decompress(chunk, _CHUNK)
            given += len(piece)
            if given > _FREE_EXPANSION and given > taken * max_expansion:
                raise FetchError(Reason.BOMB, f"{taken} bytes grew to more than {given}")
            yield piece
            chunk = inflater.unconsumed_tail
    if taken and not inflater.eof:
        raise FetchError(Reason.NETWORK, f"the {encoding} stream is cut off")


def _headers(accept: str, span: tuple[int, int] | None) -> dict[str, str]:
    if span is None:
        return {"Accept": accept}
    return {"Accept": accept, "Accept-Encoding": "identity", "Range": f"bytes={span[0]}-{span[1] - 1}"}


def _encoding(headers: CIMultiDictProxy[str]) -> str | None:
    """The coding of a body, None for none. What is no known coding (`none`, `UTF-8`, `aws-chunked`) is none, as in browsers."""
    tokens = [token.strip().lower() for token in ",".join(headers.getall("Content-Encoding", [])).split(",")]
    return " ".join(token for token in tokens if token in _CODINGS) or None


def _translated(error: Exception) -> FetchError:
    """aiohttp's and other exceptions -> reasons."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ForbiddenAddressError):
            return FetchError(Reason.BAD_ADDRESS, str(cause))
        if isinstance(cause, UnknownNameError):
            return FetchError(Reason.DNS, str(cause))
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    if isinstance(error, ClientConnectorDNSError):
        return FetchError(Reason.DNS, str(error))
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return FetchError(Reason.TLS, f"{type(error).__name__}: {error}")
    if isinstance(error, aiohttp.ClientResponseError):
        return FetchError(Reason.NETWORK, f"broken answer: {error.message[:200]}")
    return FetchError(Reason.NETWORK, f"{type(error).__name__}: {error}")
