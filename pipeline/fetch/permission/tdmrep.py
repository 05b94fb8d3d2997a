"""`/.well-known/tdmrep.json`: which paths of a site are reserved from text and data mining (W3C TDMRep, 2024-02)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from handface.pipeline.contract.text import UnreadableTextError, decode_text, is_other_file
from handface.pipeline.fetch.permission.patterns import PathPattern, PathRule, decide, sort_rules, spellings

_PATH = re.compile(r"\s*(?:https?://|[/*])", re.IGNORECASE)


@dataclass(frozen=True)
class TdmRules:
    """The rules of one site, longest first; `reserved` is the answer for paths that no rule names."""

    rules: tuple[PathRule, ...] = ()
    reserved: bool = False

    def reserves(self, path: str) -> bool:
        """Whether a path is reserved: the longest matching rule decides, and of equals one that reserves."""
        answers = [decide(self.rules, spelling) for spelling in spellings(path)]
        return any(self.reserved if permitted is None else not permitted for permitted in answers)


def parse_tdmrep(body: bytes) -> TdmRules:
    """Read the file. Only an empty file and another file than was asked for say nothing; what makes no sense reserves all."""
    if is_other_file(body):
        return TdmRules()
    try:
        entries = json.loads(decode_text(body).strip("\ufeff \t\r\n"))
        rules = [_rule(entry) for entry in (entries if isinstance(entries, list) else [entries])]
    except (UnreadableTextError, ValueError, KeyError, TypeError, RecursionError):
        return TdmRules(reserved=True)
    return TdmRules(sort_rules(rules, permission_first=False))


def is_reserved(value: Any) -> bool:
    """What a `tdm-reservation` says, in a file, header or meta tag: free only if it is zero or false."""
    if isinstance(value, str):
        word = value.partition(";")[0].strip(" \t\"'").lower()
        if word == "false":
            return False
        try:
            return float(word) != 0
        except ValueError:
            return True
    return not (isinstance(value, int | float) and value == 0)


def _rule(entry: dict[str, Any]) -> PathRule:
    """One entry. Raises KeyError or TypeError for what is none; a location that is no path means the whole site."""
    location, reserved = entry["location"], is_reserved(entry["tdm-reservation"])
    if not isinstance(location, str):
        raise TypeError(f"location {location!r}")
    if reserved and not _PATH.match(location):
        location = "/"
    return PathRule(PathPattern.parse(location), not reserved)
