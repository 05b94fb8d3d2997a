"""robots.txt and ai.txt (RFC 9309), read as a site that mistrusts crawlers means them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from handface.pipeline.contract.text import UnreadableTextError, decode_text, is_other_file
from handface.pipeline.fetch.config import PRODUCT
from handface.pipeline.fetch.permission.patterns import PathPattern, PathRule, decide, sort_rules, spellings

EVERYBODY = "*"
_TOKEN = re.compile(r"[A-Za-z_-]+")
_USER_AGENT = frozenset(("user-agent", "useragent", "user agent"))
# Misspellings that other parsers take as well (google/robotstxt).
_DISALLOW = frozenset(("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"))
_SIGNAL = frozenset(("content-signal", "content-usage"))
_NO_TRAINING = re.compile(r"(?:ai-train|train-ai)\s*=\s*(?:no?|\?0)\b", re.IGNORECASE)
_OTHERS = frozenset(
    ("allow", "sitemap", "crawl-delay", "request-rate", "visit-time", "host", "clean-param", "noindex", "nofollow")
    + ("cache-delay", "license")
)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


@dataclass
class _Group:
    agents: set[str] = field(default_factory=set)
    rules: list[PathRule] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RobotsRules:
    """What one file says to one crawler.

    Attributes:
        rules: Longest first; the first that matches decides.
        crawl_delay: Seconds between requests that it asks for, or None.
        signal: A Content-Signal or Content-Usage line that forbids training, or None.
    """

    rules: tuple[PathRule, ...] = ()
    crawl_delay: float | None = None
    signal: str | None = None

    def permits(self, path: str) -> bool:
        """Whether a path (with its query) may be fetched; the longest matching rule decides, no rule permits."""
        return all(decide(self.rules, spelling) is not False for spelling in spellings(path))


def read_robots(body: bytes, product: str = PRODUCT) -> RobotsRules:
    """Read a file: the groups that name our product token, otherwise those for everybody.

    An empty file says nothing, nor does a start page or picture of a server that answers everything with it.

    Raises:
        UnreadableTextError: The text cannot be understood, so nothing may be assumed to be permitted.
    """
    if is_other_file(body):
        return RobotsRules()
    groups = _groups(decode_text(body))
    ours = [group for group in groups if product.lower() in group.agents]
    ours = ours or [group for group in groups if EVERYBODY in group.agents]
    return RobotsRules(
        sort_rules((rule for group in ours for rule in group.rules), permission_first=True),
        max((delay for group in ours for delay in group.delays), default=None),
        next((signal for group in ours for signal in group.signals), None),
    )


def product_token(name: str) -> str:
    """The product token that a group's name begins with, in lower case: `HandFace/0.1 (...)` -> `handface`; or `*`, or nothing."""
    name = name.strip()
    if name[:1] == EVERYBODY and not name[1:2].isalpha():
        return EVERYBODY
    found = _TOKEN.match(name)
    return found[0].lower() if found else ""


def forbids_training(signal: str) -> bool:
    """Whether a Content-Signal (`ai-train=no`) or Content-Usage (`train-ai=n`) forbids what we fetch for."""
    return _NO_TRAINING.search(signal) is not None


def _groups(text: str) -> list[_Group]:
    """Every group of the file; lines before the first one count for everybody."""
    group = _Group({EVERYBODY})
    groups, ruled, understood, lines = [group], False, False, 0
    for key, value in _lines(text):
        lines += 1
        understood = understood or key in _USER_AGENT or key in _DISALLOW or key in _SIGNAL or key in _OTHERS
        if key in _USER_AGENT:
            if ruled or len(groups) == 1:
                group, ruled = _Group(), False
                groups.append(group)
            group.agents |= {product_token(name) for name in value.split(",")} if value else {EVERYBODY}
        elif key in _DISALLOW or key == "allow":
            ruled = True
            if value:
                group.rules.append(PathRule(PathPattern.parse(value), key == "allow"))
        elif key in _SIGNAL and forbids_training(value):
            group.signals.append(f"{key}: {value[:100]}")
        elif key in ("crawl-delay", "request-rate") and (delay := _delay(key, value)) is not None:
            group.delays.append(delay)
    if lines and not understood:
        raise UnreadableTextError("no line of it is one of robots.txt")
    return groups


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """(key in lower case, value) of each line that is not empty or a comment; what has no key comes with key ''."""
    for line in re.split(r"[\r\n]+", text):
        line = line.partition("#")[0].strip("\ufeff \t\f\v")
        if not line:
            continue
        key, colon, value = line.partition(":")
        if not colon:
            key, _, value = line.partition(" ")
        yield key.strip().lower(), value.strip()


def _delay(key: str, value: str) -> float | None:
    """Seconds between requests: `5`, or for a request-rate `1/10s`; None for what is no number."""
    try:
        if key == "crawl-delay":
            seconds = float(value)
        else:
            requests, _, period = value.split()[0].partition("/")
            number = period.rstrip("smh")
            seconds = float(number) * _SECONDS[period[len(number) :]] / float(requests)
    except (ValueError, IndexError, KeyError, ZeroDivisionError):
        return None
    return None if math.isnan(seconds) or seconds < 0 else seconds
