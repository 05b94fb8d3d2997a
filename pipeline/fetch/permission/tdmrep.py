"""`/.well-known/tdmrep.json`: which paths of a site are reserved from text and data mining (W3C TDMRep, 2024-02)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class TdmRules:
    """The rules of one site, in the file's order; `reserved` is the answer for paths that no rule names."""

    rules: tuple[tuple[str, bool], ...] = ()
    reserved: bool = False

    def reserves(self, path: str) -> bool:
        """Whether a path is reserved: the longest matching rule decides, and of equals one that reserves."""
        matching = [(len(location), reserved) for location, reserved in self.rules if _matches(location, path)]
        return max(matching)[1] if matching else self.reserved


def parse_tdmrep(body: bytes) -> TdmRules:
    """Read the file. What is no JSON at all (a site's start page) says nothing; JSON that makes no sense reserves all."""
    text = body.decode("utf-8", "replace").strip()
    if not text.startswith(("[", "{")):
        return TdmRules()
    try:
        entries = json.loads(text)
        entries = entries if isinstance(entries, list) else [entries]
        return TdmRules(tuple((str(entry["location"]), str(entry["tdm-reservation"]) == "1") for entry in entries))
    except (ValueError, KeyError, TypeError, RecursionError):
        return TdmRules(reserved=True)


def _matches(location: str, path: str) -> bool:
    """robots.txt patterns: a prefix with `*` for anything and a final `$` for the end."""
    anchored = location.endswith("$")
    pattern = ".*".join(re.escape(piece) for piece in re.split(r"\*+", location.removesuffix("$")))
    return re.match(pattern + ("$" if anchored else ""), path) is not None
