"""What a site permits before anything else is asked of it: robots.txt (RFC 9309), ai.txt, tdmrep.json. Fails closed."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.text import UnreadableTextError
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.client import REDIRECTS, FetchError, HttpAnswer
from handface.pipeline.fetch.network.url import BadUrlError, FetchTarget, parse
from handface.pipeline.fetch.permission.robots import RobotsRules, read_robots
from handface.pipeline.fetch.permission.tdmrep import TdmRules, parse_tdmrep

ROBOTS, AI, TDMREP = "/robots.txt", "/ai.txt", "/.well-known/tdmrep.json"
# RFC 9309 asks for at least 500 KiB to be read; a longer file closes the site, for nobody knows what its end says.
MAX_POLICY_BYTES = 1 << 20
_FORGET = 20_000  # origins remembered
_RETRY_CLOSED = 600.0  # seconds after which a site that is closed is asked again

Ask = Callable[[FetchTarget], Awaitable[HttpAnswer]]


@dataclass(frozen=True)
class Policy:
    """One file of a site: its rules, or why there are none. `closed` holds the reason when everything is forbidden."""

    state: str  # for the evidence: "status 404", "sha256 1a2b...", "unreachable: ..."
    body: bytes | None = None
    closed: str | None = None
    reason: Reason | None = None  # of a site that cannot be reached: its URLs end like a request to it
    unreachable: bool = False  # closed because it could not be asked for, which may pass
    asked: bool = True  # False if its host was left alone, or said nothing but that it wants a rest


@dataclass(frozen=True)
class SiteConsent:
    """The three files of one origin."""

    robots: RobotsRules
    ai: RobotsRules
    tdm: TdmRules
    policies: tuple[tuple[str, Policy], ...]
    until: float

    @property
    def crawl_delay(self) -> float | None:
        """Seconds between requests that robots.txt asks for (crawl-delay or request-rate), or None."""
        return self.robots.crawl_delay

    @property
    def asked(self) -> bool:
        """Whether the site was asked at all for what closes it."""
        return all(policy.asked for _, policy in self.policies)

    @property
    def unreachable(self) -> bool:
        """Whether one of the files could not be asked for."""
        return any(policy.unreachable for _, policy in self.policies)

    def evidence(self) -> dict[str, str]:
        """What each file was, for the image's record."""
        return {name.rpartition("/")[2]: policy.state for name, policy in self.policies}

    def refusal(self, target: FetchTarget) -> tuple[Reason, str] | None:
        """Why the URL must not be fetched, or None."""
        for name, policy in self.policies:
            if policy.closed:
                return policy.reason or (Reason.ROBOTS if name == ROBOTS else Reason.OPTOUT), f"{name}: {policy.closed}"
        if not self.robots.permits(target.path):
            return Reason.ROBOTS, f"{ROBOTS} disallows {target.path[:200]}"
        for name, rules in ((ROBOTS, self.robots), (AI, self.ai)):
            if rules.signal:
                return Reason.OPTOUT, f"{name} says {rules.signal}"
        if not self.ai.permits(target.path):
            return Reason.OPTOUT, f"{AI} disallows {target.path[:200]}"
        if self.tdm.reserves(target.path):
            return Reason.OPTOUT, f"{TDMREP} reserves {target.path[:200]}"
        return None


class TermsRegistry:
    """Remembers the files of each origin for at most a day; asked once however many wait for them.

    ask: one polite request to the origin (through its gate), redirects not followed.
    """

    def __init__(self, config: HttpConfig, ask: Ask) -> None:
        self._config, self._ask = config, ask
        self._known: dict[str, asyncio.Task[SiteConsent]] = {}

    async def site(self, target: FetchTarget) -> SiteConsent:
        """The consent of the target's origin. Never raises for what a site does."""
        task = self._known.get(target.origin)
        if task is None or (task.done() and (task.cancelled() or task.result().until < time.monotonic())):
            if len(self._known) >= _FORGET:
                self._known = {origin: old for origin, old in self._known.items() if not old.done()}
            task = self._known[target.origin] = asyncio.ensure_future(self._read(target))
        return await asyncio.shield(task)

    def forget(self, which: Callable[[SiteConsent], bool]) -> None:
        """Forget sites, so that they are asked again when they are next met."""
        known = self._known.items()
        self._known = {origin: task for origin, task in known if not (task.done() and which(task.result()))}

    async def _read(self, target: FetchTarget) -> SiteConsent:
        policies = {ROBOTS: await self._policy(target, ROBOTS), AI: Policy("not asked"), TDMREP: Policy("not asked")}
        if policies[ROBOTS].closed is None:
            policies |= {AI: await self._policy(target, AI), TDMREP: await self._policy(target, TDMREP)}
        rules = {}
        for name in (ROBOTS, AI):
            try:
                rules[name] = read_robots(policies[name].body or b"")
            except UnreadableTextError as error:
                rules[name] = RobotsRules()
                policies[name] = replace(policies[name], closed=f"cannot be understood ({error})")
        age = self._config.robots_age
        if any(policy.closed for policy in policies.values()):
            age = min(age, _RETRY_CLOSED)
        until = time.monotonic() + age
        tdm = parse_tdmrep(policies[TDMREP].body or b"")
        return SiteConsent(rules[ROBOTS], rules[AI], tdm, tuple(policies.items()), until)

    async def _policy(self, target: FetchTarget, name: str) -> Policy:
        """Fetch one file, following its redirects. 2xx: its rules; 4xx: none; everything else: closed (RFC 9309, 2.3.1)."""
        try:
            at = parse(target.origin + name)
            for _ in range(max(self._config.max_redirects, 5) + 1):
                answer = await self._ask(at)
                if answer.status not in REDIRECTS:
                    break
                at = at.join(answer.headers.get("Location", ""))
            else:
                return Policy("too many redirects")  # RFC 9309, 2.3.1.2: may be taken as unavailable, which permits
        except FetchError as error:
            why = f"unreachable ({error.reason}: {error.detail})"
            reason = None if error.reason in (Reason.TOO_LARGE, Reason.BOMB) else error.reason
            return Policy(
                f"unreachable: {error.reason}",
                closed=why,
                reason=reason,
                unreachable=reason is not None,
                asked=error.asked,
            )
        except BadUrlError as error:
            return Policy("unreachable: bad_url", closed=f"its redirect is refused ({error})")
        if answer.status == 200:
            return Policy(f"sha256 {hashlib.sha256(answer.body).hexdigest()[:16]}", answer.body)
        if 400 <= answer.status < 500 and answer.status != 429:
            return Policy(f"status {answer.status}")
        state = f"status {answer.status}"
        return Policy(state, closed=state, unreachable=True, asked=answer.status != 429)
