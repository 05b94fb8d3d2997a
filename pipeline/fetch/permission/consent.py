"""What a site permits before anything else is asked of it: robots.txt (RFC 9309), ai.txt, tdmrep.json. Fails closed."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.fetch.config import PRODUCT, HttpConfig
from handface.pipeline.fetch.network.client import Answer, FetchError
from handface.pipeline.fetch.network.url import BadUrlError, Target, parse
from handface.pipeline.fetch.permission.tdmrep import TdmRules, parse_tdmrep

if TYPE_CHECKING:
    from protego import Protego

ROBOTS, AI, TDMREP = "/robots.txt", "/ai.txt", "/.well-known/tdmrep.json"
_MAX_BYTES = 512 << 10  # RFC 9309 asks for at least 500 KiB to be read
_FORGET = 20_000  # origins remembered

Ask = Callable[[Target], Awaitable[Answer]]


@dataclass(frozen=True)
class Policy:
    """One file of a site: its rules, or why there are none. `closed` holds the reason when everything is forbidden."""

    state: str  # for the evidence: "status 404", "sha256 1a2b...", "unreachable: ..."
    body: bytes | None = None
    closed: str | None = None
    reason: Reason | None = None  # of a site that cannot be reached: its URLs end like a request to it


@dataclass(frozen=True)
class SiteConsent:
    """The three files of one origin."""

    robots: Protego | None
    ai: Protego | None
    tdm: TdmRules
    policies: tuple[tuple[str, Policy], ...]
    until: float

    @property
    def crawl_delay(self) -> float | None:
        """Seconds between requests that robots.txt asks for (crawl-delay or request-rate), or None."""
        if self.robots is None:
            return None
        rate = self.robots.request_rate(PRODUCT)
        delays = [self.robots.crawl_delay(PRODUCT), rate.seconds / rate.requests if rate and rate.requests else None]
        return max((float(delay) for delay in delays if delay), default=None)

    def evidence(self) -> dict[str, str]:
        """What each file was, for the image's record."""
        return {name.rpartition("/")[2]: policy.state for name, policy in self.policies}

    def refusal(self, target: Target) -> tuple[Reason, str] | None:
        """Why the URL must not be fetched, or None."""
        for name, policy in self.policies:
            if policy.closed:
                return policy.reason or (Reason.ROBOTS if name == ROBOTS else Reason.OPTOUT), f"{name}: {policy.closed}"
        if self.robots is not None and not self.robots.can_fetch(target.url, PRODUCT):
            return Reason.ROBOTS, f"{ROBOTS} disallows {target.path[:200]}"
        if self.ai is not None and not self.ai.can_fetch(target.url, PRODUCT):
            return Reason.OPTOUT, f"{AI} disallows {target.path[:200]}"
        if self.tdm.reserves(target.path):
            return Reason.OPTOUT, f"{TDMREP} reserves {target.path[:200]}"
        return None


class ConsentBook:
    """Remembers the files of each origin for at most a day; asked once however many wait for them.

    ask: one polite request to the origin (through its gate), redirects not followed.
    """

    def __init__(self, config: HttpConfig, ask: Ask) -> None:
        self._config, self._ask = config, ask
        self._known: dict[str, asyncio.Task[SiteConsent]] = {}

    async def site(self, target: Target) -> SiteConsent:
        """The consent of the target's origin. Never raises for what a site does."""
        task = self._known.get(target.origin)
        if task is None or (task.done() and (task.cancelled() or task.result().until < time.monotonic())):
            if len(self._known) >= _FORGET:
                self._known = {origin: old for origin, old in self._known.items() if not old.done()}
            task = self._known[target.origin] = asyncio.ensure_future(self._read(target))
        return await asyncio.shield(task)

    async def _read(self, target: Target) -> SiteConsent:
        from protego import Protego

        robots = await self._policy(target, ROBOTS)
        rest = [(AI, Policy("not asked")), (TDMREP, Policy("not asked"))]
        if robots.closed is None:
            rest = [(AI, await self._policy(target, AI)), (TDMREP, await self._policy(target, TDMREP))]
        policies = ((ROBOTS, robots), *rest)
        bodies = {name: policy.body for name, policy in policies}
        rules = {
            name: Protego.parse(body.decode("utf-8", "replace"))
            for name in (ROBOTS, AI)
            if (body := bodies[name]) is not None and (name == ROBOTS or body.lstrip()[:1] != b"<")
        }
        transient = any(policy.closed for _, policy in policies)  # a closed door is tried again sooner
        until = time.monotonic() + min(self._config.robots_age, 600.0 if transient else self._config.robots_age)
        tdm = parse_tdmrep(bodies[TDMREP] or b"")
        return SiteConsent(rules.get(ROBOTS), rules.get(AI), tdm, policies, until)

    async def _policy(self, target: Target, name: str) -> Policy:
        """Fetch one file, following its redirects. 2xx: its rules; 4xx: none; everything else: closed (RFC 9309, 2.3.1)."""
        try:
            at = parse(target.origin + name)
            for _ in range(max(self._config.max_redirects, 5) + 1):
                answer = await self._ask(at)
                if answer.status not in (301, 302, 303, 307, 308):
                    break
                at = at.join(answer.headers.get("Location", ""))
            else:
                return Policy("too many redirects")  # RFC 9309, 2.3.1.2: may be taken as unavailable, which permits
        except FetchError as error:
            why = f"unreachable ({error.reason}: {error.detail})"
            return Policy(f"unreachable: {error.reason}", closed=why, reason=error.reason)
        except BadUrlError as error:
            return Policy("unreachable: bad_url", closed=f"its redirect is refused ({error})")
        if answer.status == 200:
            body = answer.body[:_MAX_BYTES]
            return Policy(f"sha256 {hashlib.sha256(body).hexdigest()[:16]}", body)
        if 400 <= answer.status < 500 and answer.status != 429:
            return Policy(f"status {answer.status}")
        return Policy(f"status {answer.status}", closed=f"status {answer.status}")


MAX_POLICY_BYTES = _MAX_BYTES
