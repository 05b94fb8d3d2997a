"""HTML -> start tags, in time that grows with the page and no faster, whatever is broken in it."""

from __future__ import annotations

import codecs
import html
import re
import time
from collections.abc import Iterator

from handface.pipeline.contract.text import text_encoding

# Elements whose content is text, not tags (HTML, 13.2.5.1).
_RAW = frozenset(("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"))
_RAW_END = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in _RAW}
_START = re.compile(r"<(?:([a-zA-Z][^\s/>]*+)|(!--|[!?]|/[^\s>]))")
_ATTRIBUTE = re.compile(
    r"""[\s/]*+(?:(>)|([^\s/>][^\s/>=]*+)\s*+(?:=\s*+(?:"([^"]*+)"|'([^']*+)'|(?!["'])([^\s>]*+)))?)"""
)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w-]{1,40})""", re.IGNORECASE)
# Python's names of encodings that pages use; its other codecs are no encodings, or slow.
_PAGE_ENCODING = re.compile(r"ascii|big5|cp\d+|euc_|gb|iso8859|johab|koi8|mac_|shift_jis|tis_|utf-8")
_LOOK_AT_CLOCK = 1000


class PageTooSlowError(ValueError):
    """A page that took longer to read than it may."""


def decode_page(body: bytes) -> str:
    """Text of a page: by its byte order mark, else by the charset it declares, else UTF-8."""
    encoding = text_encoding(body)
    if encoding == "utf-8" and (declared := _CHARSET.search(body[:4096])):
        try:
            name = codecs.lookup(declared[1].decode("ascii", "replace")).name
        except (LookupError, ValueError):
            name = encoding
        encoding = name if _PAGE_ENCODING.match(name) else encoding
    return body.decode(encoding, "replace").removeprefix("\ufeff")


def start_tags(text: str, seconds: float = 5.0) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, attributes) of each start tag, names in lower case, character references resolved, first of equal ones.

    Comments, declarations, scripts and styles are passed over as browsers do; what is never closed ends the page.

    Raises:
        PageTooSlowError: It takes longer than `seconds`.
    """
    until, at, count = time.monotonic() + seconds, 0, 0
    while (found := _START.search(text, at)) is not None:
        count += 1
        if count % _LOOK_AT_CLOCK == 0 and time.monotonic() > until:
            raise PageTooSlowError(f"more than {seconds:g} s to read")
        if found[1] is None:
            end = text.find("-->" if found[2] == "!--" else ">", found.end() - (found[2] == "!--") * 2)
            if end < 0:
                return
            at = end + 1
            continue
        name = found[1].lower()
        attributes, at = _attributes(text, found.end())
        if at < 0:
            return
        yield name, attributes
        if name in _RAW:
            closed = _RAW_END[name].search(text, at)
            if closed is None:
                return
            at = closed.start()


def _attributes(text: str, at: int) -> tuple[dict[str, str], int]:
    """The attributes of a tag and the index behind it; -1 where the page ends first."""
    found: dict[str, str] = {}
    while (match := _ATTRIBUTE.match(text, at)) is not None:
        at = match.end()
        if match[1]:
            return found, at
        value = match[3] if match[3] is not None else match[4] if match[4] is not None else match[5]
        if value is None and text[at : at + 1] == "=":
            # A quote that is never closed.
            return found, -1
        found.setdefault(match[2].lower(), html.unescape(value or ""))
    return found, -1
