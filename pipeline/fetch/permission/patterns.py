"""Path patterns of robots.txt, ai.txt and tdmrep.json (RFC 9309, 2.2.2 and 2.2.3), matched in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from handface.pipeline.contract.names.url_names import SAFE

_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})")
_BARE_PERCENT = re.compile(r"%(?![0-9A-F]{2})")
_PLAIN = re.compile(r"[A-Za-z0-9._~/-]")


@dataclass(frozen=True)
class PathPattern:
    """A prefix of paths; `*` stands for anything, a final `$` for the end. length: its weight, longer ones decide."""

    pieces: tuple[str, ...]
    anchored: bool
    length: int

    @classmethod
    def parse(cls, text: str) -> PathPattern:
        """Read a pattern as it stands in a rule; one that begins with no slash is completed in the way that forbids more."""
        text = _ORIGIN.sub("", text.strip(), count=1)
        if text[:1] not in ("/", "*"):
            text = f"*{text}" if text[:1] == "?" else f"/{text}"
        anchored = text.endswith("$")
        pieces = tuple(map(comparable, text.removesuffix("$").split("*")))
        return cls(pieces, anchored, len(quote(text, safe=SAFE, errors="surrogatepass")))

    def matches(self, path: str) -> bool:
        """Whether a path, as `comparable` spells it, is meant. Each piece is looked for once, so no pattern is slow."""
        first, *others = self.pieces
        if not path.startswith(first):
            return False
        if not others:
            return not self.anchored or len(path) == len(first)
        at = len(first)
        for piece in others[:-1]:
            found = path.find(piece, at)
            if found < 0:
                return False
            at = found + len(piece)
        last = others[-1]
        if self.anchored:
            return path.endswith(last) and len(path) - len(last) >= at
        return path.find(last, at) >= 0


@dataclass(frozen=True)
class PathRule:
    """A pattern and what it says: True permits."""

    pattern: PathPattern
    permits: bool


def sort_rules(rules: Iterable[PathRule], *, permission_first: bool) -> tuple[PathRule, ...]:
    """Order rules so that the first one that matches decides: longest first.

    Args:
        rules: In any order.
        permission_first: Of two equally long ones the one that permits comes first (RFC 9309), otherwise the one that forbids.
    """
    return tuple(sorted(set(rules), key=lambda rule: (-rule.pattern.length, rule.permits != permission_first)))


def decide(rules: Iterable[PathRule], path: str) -> bool | None:
    """What the first matching rule says of a path that `comparable` has spelt, or None if no rule is about it."""
    return next((rule.permits for rule in rules if rule.pattern.matches(path)), None)


def spellings(path: str) -> Iterator[str]:
    """A path as rules are compared with it: as it is and, where slashes stand in a row, as servers that merge them see it."""
    spelt = comparable(path)
    yield spelt
    plain, mark, query = spelt.partition("?")
    if "//" in plain:
        yield re.sub("/+", "/", plain) + mark + query


def comparable(text: str) -> str:
    """One spelling of a path, query or a piece of them: escaped unless unreserved, so that none slips past a rule."""

    def plain(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if _PLAIN.match(character) else match[0].upper()

    text = _BARE_PERCENT.sub("%25", _ESCAPE.sub(plain, text))
    return quote(text, safe="/?%", errors="surrogatepass")
