"""One spelling for each web address, so that one picture has one name in ids, exclusion lists and takedowns.

`HTTP://Host.example:80/a/../b.jpg?#top` is `http://host.example/b.jpg`; without its scheme (`url_name`) it is also the
`https` address that people see in their browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlsplit

WEB_SCHEMES = {"http": 80, "https": 443}
# Everything a path or query may hold unescaped; percent signs stay as they are.
SAFE = "%/:?#[]@!$&'()*+,;=~"
_WEB = re.compile(r"https?://", re.IGNORECASE)
# Addresses that need no work: most of a list.
_CANONICAL = re.compile(r"https?://[a-z0-9-]+(?:\.[a-z0-9-]+)+/(?:[\w!$&'()*+,;=:@~/?-]|(?<!/)\.)*(?<!\?)", re.ASCII)
_NOT_IN_TEXT = re.compile(r"""[\s\x00-\x1f\x7f"<>^`{|}]""")
_ESCAPE = re.compile(r"%([0-9a-fA-F]{2})")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_DOT = {".", "%2e"}
_TWO_DOTS = {"..", ".%2e", "%2e.", "%2e%2e"}


def is_web(address: str) -> bool:
    """Whether an address is http or https, in any case of letters."""
    return _WEB.match(address) is not None


def canonical_url(url: str) -> str:
    """Spell a web address in the one way that all of its variants share; the scheme stays.

    Host in lower case and ASCII, no default port, no fragment, no dot segments, no empty query, escapes only where needed.
    Anything that is no web address comes back as it is, without white space around it. Never raises.
    """
    if _CANONICAL.fullmatch(url):
        return url
    url = url.strip()
    if not is_web(url):
        return url
    try:
        parts = urlsplit(url.replace("\\", "/"))
        scheme, host, port = parts.scheme.lower(), _host(parts.hostname or ""), parts.port
    except ValueError:
        return url
    if not host:
        return url
    user = parts.netloc.rpartition("@")[0]
    netloc = f"{user}@{host}" if user else host
    if port is not None and port != WEB_SCHEMES[scheme]:
        netloc += f":{port}"
    path = remove_dot_segments(_escaped(parts.path)) or "/"
    query = f"?{_escaped(parts.query)}" if parts.query else ""
    return f"{scheme}://{netloc}{path}{query}"


def copyable_url(address: str) -> str:
    """A web address as it can be copied out of a table or a sentence: white space, quotes and brackets are escaped, letters stay.

    Anything that is no web address comes back as it is.
    """
    if not is_web(address):
        return address
    # a backslash is a slash, as browsers have it
    return _NOT_IN_TEXT.sub(lambda found: quote(found[0], safe=""), address.strip().replace("\\", "/"))


def url_name(url: str) -> str:
    """The canonical address without its scheme: what a picture is called in exclusion lists and takedowns."""
    canonical = canonical_url(url)
    return canonical.partition("://")[2] if is_web(canonical) else canonical


def picture_names(uri: str, columns: Mapping[str, str], evidence: Mapping[str, str]) -> frozenset[str]:
    """Every name a picture goes by: where it was asked for, where it moved from, and who answered in the end.

    Args:
        uri: The address in its row.
        columns: Extra columns of its row; `url` and `moved_from` are addresses too.
        evidence: What the fetch noted; `answered_by` is the last address of a chain of redirects.
    """
    addresses: Iterable[str | None] = (uri, columns.get("url"), columns.get("moved_from"), evidence.get("answered_by"))
    return frozenset(url_name(address) for address in addresses if address)


def remove_dot_segments(path: str) -> str:
    """Resolve `.` and `..` in an absolute path as browsers do, also where the dots are escaped (RFC 3986, 5.2.4)."""
    if "/." not in path and "/%2" not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments):
        last = number == len(segments) - 1
        if segment.lower() in _TWO_DOTS:
            del kept[-1:]
        elif segment.lower() not in _DOT:
            kept.append(segment)
            continue
        if last:
            kept.append("")
    return "/" + "/".join(kept)


def _host(name: str) -> str:
    """Lower case, ASCII, without a final dot; IPv6 in its brackets."""
    if ":" in name:
        return f"[{name.lower()}]"
    if not name.isascii():
        import idna

        try:
            name = idna.encode(name, uts46=True).decode()
        except (idna.IDNAError, UnicodeError):
            return name.lower()
    return name.lower().rstrip(".")


def _escaped(text: str) -> str:
    """Escape what must be, unescape what need not be, hex digits in capitals."""

    def plain(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if _UNRESERVED.match(character) else match[0].upper()

    return quote(_ESCAPE.sub(plain, text), safe=SAFE, errors="surrogatepass")
