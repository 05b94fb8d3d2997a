"""The fetch of one URL from permission to bytes: ask the site, wait for the host's turn, follow hop by hop, try again.

url -> parse -> site's consent -> host's gate -> pinned connection -> caps and opt-outs while it arrives -> bytes
  ^                                                                                         |
  +-------------------------------- redirect: every check again ----------------------------+
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.client import REDIRECTS, Client, FetchError, HttpAnswer
from handface.pipeline.fetch.network.host_gate import HostGate, backoff, retry_after
from handface.pipeline.fetch.network.resolver import Lookup
from handface.pipeline.fetch.network.url import BadUrlError, FetchTarget, parse
from handface.pipeline.fetch.pages.links import MAX_PAGE
from handface.pipeline.fetch.permission.consent import MAX_POLICY_BYTES, SiteConsent, TermsRegistry
from handface.pipeline.fetch.permission.optout import header_refusal

UNREACHABLE = frozenset((Reason.DNS, Reason.TIMEOUT, Reason.NETWORK, Reason.TLS, Reason.HTTP_5XX, Reason.HTTP_429))
_BUSY = (Reason.HTTP_429, Reason.HTTP_5XX)
_MAY_PASS = (Reason.TIMEOUT, Reason.NETWORK, Reason.HTTP_429, Reason.HTTP_5XX)
_STATUS = {401: Reason.HTTP_403, 403: Reason.HTTP_403, 451: Reason.HTTP_403, 404: Reason.HTTP_404, 410: Reason.HTTP_404}
_GATES = 20_000
IMAGE, PAGE, FILE = "image", "page", "file"
_ACCEPT = {
    IMAGE: "image/jpeg,image/png,image/webp,image/*;q=0.8,*/*;q=0.1",
    PAGE: "text/html,application/xml,*/*;q=0.1",
    FILE: "*/*",
}


@dataclass(frozen=True)
class CrawlRequest:
    """What is wanted of a URL; see `Crawler.fetch`."""

    role: str
    max_bytes: int | None = None
    method: str = "GET"
    span: tuple[int, int] | None = None

    def part_of(self, answer: HttpAnswer) -> bytes:
        """The bytes that were asked for, also of a server that answers with the whole. Raises FetchError for others."""
        if self.span is None:
            return answer.body
        start, end = self.span
        if answer.status == 200:
            return answer.body[start:end]
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise FetchError(Reason.NETWORK, f"other bytes than {start} to {end} came")
        return answer.body[: end - start]


@dataclass(frozen=True)
class Fetched:
    """A body, or the reason there is none.

    Attributes:
        data: The body; b"" after HEAD.
        reason: Why there is none.
        detail: The reason in words.
        evidence: What was asked of the site, and what it said.
        url: Who answered, after redirects.
        location: Where a moved URL went.
        content_type: As the server calls it.
        status: Of the answer that brought nothing, if there was one.
        asked: False if the URL was left alone because its host had failed, rests, or had its time: nothing is known of it.
        reached: False if the site could not be asked, or not for its permission.
    """

    data: bytes | None
    reason: Reason | None = None
    detail: str = ""
    evidence: dict[str, str] = field(default_factory=dict)
    url: str = ""
    location: str | None = None
    content_type: str = ""
    status: int | None = None
    asked: bool = True
    reached: bool = True


class Crawler:
    """Fetches URLs politely; one per process, kept over many units so that hosts and connections are remembered.

    stay: a redirect to another owner's host ends as `moved` instead of being followed, so that each host is only ever asked
    by the process that owns it.
    """

    def __init__(self, config: HttpConfig, lookup: Lookup | None = None, *, stay: bool = False) -> None:
        self.config, self.stay = config, stay
        self._client = Client(config, lookup)
        self._consent = TermsRegistry(config, self._ask_policy)
        self._gates: dict[str, HostGate] = {}
        self._everywhere = asyncio.Semaphore(config.concurrency)
        self._waits: defaultdict[str, float] = defaultdict(float)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    def start_unit(self) -> None:
        """Give hosts their time budget afresh, and forget those long unused."""
        if len(self._gates) > _GATES:
            self._gates = {owner: gate for owner, gate in self._gates.items() if gate.in_use}
        for gate in self._gates.values():
            gate.start_unit()
        self._consent.forget(lambda site: not site.asked)

    def take_waits(self) -> dict[str, float]:
        """{host: seconds} that requests have waited for their host's turn since the last call."""
        waits, self._waits = self._waits, defaultdict(float)
        return dict(waits)

    def forget_closed(self) -> None:
        """Ask sites whose permission files could not be reached again, sooner than usual."""
        self._consent.forget(lambda site: site.unreachable)

    async def fetch(
        self,
        url: str,
        role: str = IMAGE,
        max_bytes: int | None = None,
        method: str = "GET",
        span: tuple[int, int] | None = None,
    ) -> Fetched:
        """Fetch one URL. Never raises for what a URL, a server or the network does.

        Args:
            url: As a list, page or redirect writes it.
            role: IMAGE: other files are refused by their first bytes.  PAGE: pages longer than 2 MB are refused.  FILE: anything.
            max_bytes: Of the body; the config's cap, or a page's, without.
            method: HEAD asks for the headers alone.
            span: (start, end) of the bytes that are wanted, instead of the whole.
        """
        asked = CrawlRequest(role, max_bytes, method, span)
        evidence: dict[str, str] = {}
        try:
            target = parse(url)
            for attempt in range(1, self.config.attempts + 1):
                try:
                    return await self._follow(target, asked, evidence)
                except FetchError as error:
                    last = error
                    pause = backoff(url, attempt, error.retry_after, self.config)
                    busy = error.reason in _BUSY and error.asked
                    if busy and (attempt < self.config.attempts or error.retry_after):
                        # The whole host gets its rest, not only this URL.
                        self._gate(error.target or target).rest(pause, error)
                    last_try = attempt == self.config.attempts or pause > self.config.max_wait
                    if error.reason not in _MAY_PASS or not error.asked or last_try:
                        break
                    if not busy:
                        await asyncio.sleep(pause)
            reached = last.reached and last.reason not in UNREACHABLE
            return Fetched(
                None, last.reason, last.detail, evidence, status=last.status, asked=last.asked, reached=reached
            )
        except BadUrlError as error:
            return Fetched(None, Reason.BAD_URL, str(error), evidence)

    async def _follow(self, target: FetchTarget, asked: CrawlRequest, evidence: dict[str, str]) -> Fetched:
        start, seen = target, {target.url}
        for _ in range(self.config.max_redirects + 1):
            await self._permitted(target, evidence)
            answer = await self._polite(target, asked)
            if answer.status == 200 or (answer.status == 206 and asked.span is not None):
                kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if target is not start:
                    evidence["answered_by"] = target.url
                return Fetched(asked.part_of(answer), evidence=evidence, url=target.url, content_type=kind)
            if answer.status not in REDIRECTS:
                raise _status_error(answer)
            try:
                target = target.join(answer.headers.get("Location", ""))
            except BadUrlError as error:
                raise FetchError(Reason.BAD_URL, f"redirects to what is refused: {error}") from error
            if self.stay and target.owner != start.owner:
                detail = f"to {target.url}"
                return Fetched(None, Reason.MOVED, detail, evidence, start.url, location=target.url)
            if target.url in seen:
                raise FetchError(Reason.REDIRECTS, f"redirects in a circle, back to {target.url}")
            seen.add(target.url)
        raise FetchError(Reason.REDIRECTS, f"more than {self.config.max_redirects} redirects")

    async def _permitted(self, target: FetchTarget, evidence: dict[str, str]) -> None:
        """Ask the site's files. Raises FetchError when they forbid the URL."""
        if not self.config.consent:
            evidence["consent"] = "not asked (consent off)"
            return
        site = await self._consent.site(target)
        evidence |= site.evidence()
        if refused := site.refusal(target):
            evidence["decision"] = f"refused: {refused[1]}"
            raise FetchError(*refused, reached=not site.unreachable, asked=site.asked)
        self._pace(target, site)
        evidence["decision"] = "permitted"

    def _pace(self, target: FetchTarget, site: SiteConsent) -> None:
        delay = site.crawl_delay
        if delay and delay > self.config.max_crawl_delay:
            raise FetchError(Reason.ROBOTS, f"crawl-delay {delay:g} s, more than {self.config.max_crawl_delay:g}")
        self._gate(target).ask_pause(delay)

    async def _polite(self, target: FetchTarget, asked: CrawlRequest) -> HttpAnswer:
        """One request in the host's turn. Raises FetchError; its answer's opt-out headers are obeyed before the body is read."""
        gate, arrived = self._gate(target), time.monotonic()
        async with gate.turn(), self._everywhere:
            self._waits[target.owner] += time.monotonic() - arrived
            try:
                answer = await self._client.get(
                    target,
                    accept=_ACCEPT[asked.role],
                    max_bytes=asked.max_bytes,
                    check=_HeaderCheck(asked, self.config.consent),
                    method=asked.method,
                    span=asked.span,
                )
            except FetchError as error:
                if error.answered:
                    gate.succeeded()
                elif error.reason in (Reason.TIMEOUT, Reason.NETWORK, Reason.DNS, Reason.TLS):
                    gate.failed(error)
                raise
        gate.succeeded()
        return answer

    async def _ask_policy(self, target: FetchTarget) -> HttpAnswer:
        """A site's own file: polite, tried again, but asked for without permission. Raises FetchError."""
        gate = self._gate(target)
        for attempt in range(1, self.config.attempts + 1):
            answer: HttpAnswer | None = None
            try:
                async with gate.turn(), self._everywhere:
                    answer = await self._client.get(target, accept="text/plain,*/*;q=0.5", max_bytes=MAX_POLICY_BYTES)
                if answer.status != 429 and answer.status < 500:
                    return answer
                error = _status_error(answer)
            except FetchError as failure:
                if failure.reason not in _MAY_PASS or not failure.asked or attempt == self.config.attempts:
                    raise
                error = failure
            pause = backoff(target.url, attempt, error.retry_after, self.config)
            if attempt < self.config.attempts or error.retry_after:
                gate.rest(pause, error if answer else None)
            if answer is not None and (attempt == self.config.attempts or pause > self.config.max_wait):
                return answer
        raise AssertionError("the last attempt returns or raises")

    def _gate(self, target: FetchTarget) -> HostGate:
        gate = self._gates.get(target.owner)
        if gate is None:
            gate = self._gates[target.owner] = HostGate(self.config)
        return gate


@dataclass(frozen=True)
class _HeaderCheck:
    """Looks at headers and first bytes before the rest of a body is read; returns how long that may become, or None."""

    asked: CrawlRequest
    consent: bool

    def __call__(self, headers: Mapping[str, str], start: bytes) -> int | None:
        if self.consent and (refused := header_refusal(headers)):
            raise FetchError(Reason.OPTOUT, refused)
        from handface.pipeline.contract.images.picture import sniff

        if sniff(start) is not None:
            # Also where a page was expected: a link may lead to a picture.
            return None
        if start and self.asked.role == IMAGE:
            what = "HTML" if start.lstrip()[:1] == b"<" else f"starts with {start[:8].hex()}"
            raise FetchError(Reason.NOT_IMAGE, what)
        return MAX_PAGE if self.asked.role == PAGE and self.asked.max_bytes is None else None


def _status_error(answer: HttpAnswer) -> FetchError:
    """A status that is neither 200 nor a redirect -> its reason, with the pause the server asked for."""
    status = answer.status
    reason = _STATUS.get(status, Reason.HTTP_ERROR)
    if status == 429:
        reason = Reason.HTTP_429
    elif status >= 500:
        reason = Reason.HTTP_5XX
    pause = retry_after(answer.headers.get("Retry-After")) if reason in _BUSY else None
    return FetchError(reason, f"status {status}", pause, status=status, target=answer.target)
