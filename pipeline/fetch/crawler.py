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
from handface.pipeline.fetch.network.client import Answer, Client, FetchError
from handface.pipeline.fetch.network.host_gate import HostGate, backoff, retry_after
from handface.pipeline.fetch.network.resolver import Lookup
from handface.pipeline.fetch.network.url import BadUrlError, Target, parse
from handface.pipeline.fetch.permission.consent import MAX_POLICY_BYTES, ConsentBook, SiteConsent
from handface.pipeline.fetch.permission.optout import header_refusal

_REDIRECTS = (301, 302, 303, 307, 308)
_MAY_PASS = (Reason.TIMEOUT, Reason.NETWORK, Reason.HTTP_429, Reason.HTTP_5XX)
_STATUS = {401: Reason.HTTP_403, 403: Reason.HTTP_403, 451: Reason.HTTP_403, 404: Reason.HTTP_404, 410: Reason.HTTP_404}
_GATES = 20_000
IMAGE, PAGE = "image", "page"
_ACCEPT = {
    IMAGE: "image/jpeg,image/png,image/webp,image/*;q=0.8,*/*;q=0.1",
    PAGE: "text/html,application/xml,*/*;q=0.1",
}


@dataclass(frozen=True)
class Fetched:
    """A body, or the reason there is none. evidence: what was asked and found. location: where a moved URL went."""

    data: bytes | None
    reason: Reason | None = None
    detail: str = ""
    evidence: dict[str, str] = field(default_factory=dict)
    url: str = ""  # that answered, after redirects
    location: str | None = None
    content_type: str = ""


class Crawler:
    """Fetches URLs politely; one per process, kept over many units so that hosts and connections are remembered.

    stay: a redirect to another owner's host ends as `moved` instead of being followed, so that each host is only ever asked
    by the process that owns it.
    """

    def __init__(self, config: HttpConfig, lookup: Lookup | None = None, *, stay: bool = False) -> None:
        self.config, self.stay = config, stay
        self._client = Client(config, lookup)
        self._consent = ConsentBook(config, self._ask_policy)
        self._gates: dict[str, HostGate] = {}
        self._everywhere = asyncio.Semaphore(config.concurrency)
        self._waits: defaultdict[str, float] = defaultdict(float)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()

    def start_unit(self) -> None:
        """Give hosts their time budget afresh, and forget those long unused."""
        if len(self._gates) > _GATES:
            self._gates = {owner: gate for owner, gate in self._gates.items() if gate.waiting}
        for gate in self._gates.values():
            gate.start_unit()

    def take_waits(self) -> dict[str, float]:
        """{host: seconds} that requests have waited for their host's turn since the last call."""
        waits, self._waits = self._waits, defaultdict(float)
        return dict(waits)

    async def fetch(self, url: str, role: str = IMAGE, max_bytes: int | None = None, method: str = "GET") -> Fetched:
        """Fetch one URL (or, with method HEAD, ask for its headers alone). Never raises for what a URL, a server or the
        network does."""
        evidence: dict[str, str] = {}
        try:
            target = parse(url)
            for attempt in range(1, self.config.attempts + 1):
                try:
                    return await self._follow(target, role, max_bytes, evidence, method)
                except FetchError as error:
                    last = error
                    pause = backoff(url, attempt, error.retry_after, self.config)
                    if error.reason not in _MAY_PASS or attempt == self.config.attempts or pause > self.config.max_wait:
                        break
                    if error.reason in (Reason.HTTP_429, Reason.HTTP_5XX):
                        self._gate(target).rest(pause)  # the whole host gets its rest, not only this URL
                    else:
                        await asyncio.sleep(pause)
            return Fetched(None, last.reason, last.detail, evidence)
        except BadUrlError as error:
            return Fetched(None, Reason.BAD_URL, str(error), evidence)

    async def _follow(
        self, target: Target, role: str, max_bytes: int | None, evidence: dict[str, str], method: str
    ) -> Fetched:
        start, seen = target, {target.url}
        for _ in range(self.config.max_redirects + 1):
            await self._permitted(target, evidence)
            answer = await self._polite(target, role, max_bytes, method)
            if answer.status == 200:
                kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
                if target is not start:
                    evidence["answered_by"] = target.url
                return Fetched(answer.body, evidence=evidence, url=target.url, content_type=kind)
            if answer.status not in _REDIRECTS:
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

    async def _permitted(self, target: Target, evidence: dict[str, str]) -> None:
        """Ask the site's files. Raises FetchError when they forbid the URL."""
        if not self.config.consent:
            evidence["consent"] = "not asked (consent off)"
            return
        site = await self._consent.site(target)
        evidence |= site.evidence()
        if refused := site.refusal(target):
            evidence["decision"] = f"refused: {refused[1]}"
            raise FetchError(*refused)
        self._pace(target, site)
        evidence["decision"] = "permitted"

    def _pace(self, target: Target, site: SiteConsent) -> None:
        delay = site.crawl_delay
        if delay and delay > self.config.max_crawl_delay:
            raise FetchError(Reason.ROBOTS, f"crawl-delay {delay:g} s, more than {self.config.max_crawl_delay:g}")
        self._gate(target).ask_pause(delay)

    async def _polite(self, target: Target, role: str, max_bytes: int | None, method: str) -> Answer:
        """One request in the host's turn. Raises FetchError; its answer's opt-out headers are obeyed before the body is read."""
        gate, asked = self._gate(target), time.monotonic()
        async with gate.turn(), self._everywhere:
            self._waits[target.owner] += time.monotonic() - asked
            try:
                check = _HeaderCheck(role, self.config.consent)
                answer = await self._client.get(
                    target, accept=_ACCEPT[role], max_bytes=max_bytes, check=check, method=method
                )
            except FetchError as error:
                if error.reason in (Reason.TIMEOUT, Reason.NETWORK, Reason.DNS, Reason.TLS):
                    gate.failed(error)
                raise
        gate.succeeded()
        return answer

    async def _ask_policy(self, target: Target) -> Answer:
        """A site's own file: polite, tried again, but asked for without permission. Raises FetchError."""
        gate, answer = self._gate(target), None
        for attempt in range(1, self.config.attempts + 1):
            try:
                async with gate.turn(), self._everywhere:
                    answer = await self._client.get(
                        target, accept="text/plain,*/*;q=0.5", max_bytes=8 * MAX_POLICY_BYTES
                    )
                if answer.status != 429 and answer.status < 500:
                    return answer
                asked = retry_after(answer.headers.get("Retry-After"))
            except FetchError as error:
                if error.reason not in _MAY_PASS or attempt == self.config.attempts:
                    raise
                answer, asked = None, None
            pause = backoff(target.url, attempt, asked, self.config)
            if attempt < self.config.attempts and pause <= self.config.max_wait:
                gate.rest(pause)
            elif answer is not None:
                break
        assert answer is not None
        return answer

    def _gate(self, target: Target) -> HostGate:
        gate = self._gates.get(target.owner)
        if gate is None:
            gate = self._gates[target.owner] = HostGate(self.config)
        return gate


@dataclass(frozen=True)
class _HeaderCheck:
    """Looks at headers and first bytes before the rest of a body is read."""

    role: str
    consent: bool

    def __call__(self, headers: Mapping[str, str], start: bytes) -> None:
        if self.consent and (refused := header_refusal(headers)):
            raise FetchError(Reason.OPTOUT, refused)
        if self.role == IMAGE:
            from handface.pipeline.contract.picture import sniff

            if start and sniff(start) is None:
                what = "HTML" if start.lstrip()[:1] == b"<" else f"starts with {start[:8].hex()}"
                raise FetchError(Reason.NOT_IMAGE, what)


def _status_error(answer: Answer) -> FetchError:
    """A status that is neither 200 nor a redirect -> its reason, with the pause the server asked for."""
    status = answer.status
    pause = retry_after(answer.headers.get("Retry-After"))
    if status == 429:
        return FetchError(Reason.HTTP_429, "status 429", pause)
    if status >= 500:
        return FetchError(Reason.HTTP_5XX, f"status {status}", pause)
    return FetchError(_STATUS.get(status, Reason.HTTP_ERROR), f"status {status}")
