"""One strict reading of a URL, so that what is checked is what is connected to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urljoin, urlsplit

from handface.pipeline.contract.names.url_names import SAFE, WEB_SCHEMES, remove_dot_segments

MAX_URL = 4096
# Ports of services that must never get a web request: the Fetch standard's "bad ports", and common databases and daemons.
_BAD_PORTS = frozenset(
    (1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109, 110, 111)
    + (113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540)
    + (548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 3306, 3659, 4045)
    + (4190, 5060, 5061, 5432, 5984, 6000, 6379, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9200, 10080, 10250, 11211, 27017)
)  # fmt: skip
_LOCAL_NAMES = (
    "localhost",
    "local",
    "internal",
    "intranet",
    "home.arpa",
    "lan",
    "corp",
    "home",
    "onion",
    "in-addr.arpa",
)
_PLAIN = re.compile(r"https?://([a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z][a-z0-9-]*)(?::\d+)?(?=[/?#]|$)", re.IGNORECASE)
_HOST_END = re.compile(r"[/?#]")
# Browsers forgive spaces and backslashes behind the host; in the host, every parser reads them in a way of its own.
_NOT_IN_HOST = re.compile(r"[\x00-\x20\x7f\\]|[\u0080-\u00a0\u2028\u2029\ufeff]")
_NOT_IN_PATH = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LINE_BREAKS = re.compile(r"[\t\r\n]")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|\d+)", re.IGNORECASE)
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


class BadUrlError(ValueError):
    """A URL that is never fetched; the message says why."""


@dataclass(frozen=True)
class FetchTarget:
    """A URL that may be asked for, its host in ASCII lower case without a final dot."""

    url: str
    scheme: str
    host: str
    port: int
    path: str  # with the query

    @property
    def origin(self) -> str:
        """`scheme://host[:port]`: the unit of robots.txt."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == WEB_SCHEMES[self.scheme] else f":{self.port}")

    @property
    def owner(self) -> str:
        """Whose limits apply: the host, with and without `www.` being one."""
        return self.host.removeprefix("www.")

    @property
    def literal(self) -> bool:
        """Whether the host is an IP address."""
        return ":" in self.host or self.host.replace(".", "").isdigit()

    def join(self, location: str) -> FetchTarget:
        """Where a redirect or a link leads, read as browsers do. Raises BadUrlError."""
        location = _LINE_BREAKS.sub("", location).strip(" \f")
        path, mark, query = location.partition("?")
        try:
            return parse(urljoin(self.url, path.replace("\\", "/") + mark + query))
        except ValueError as error:
            raise BadUrlError(str(error)) from error


def owner_of(url: str) -> str | None:
    """The owner of a URL's host without parsing all of it; None if it is no URL that could be fetched."""
    if match := _PLAIN.match(url):
        return match[1].lower().removeprefix("www.")
    try:
        return parse(url).owner
    except BadUrlError:
        return None


def parse(url: str) -> FetchTarget:
    """Read a URL and refuse every trick: other schemes, user info, odd number notations, control characters, local names.

    Raises BadUrlError. Whether the host's addresses are allowed is decided after resolution, by `address.refusal`.
    """
    if len(url) > MAX_URL:
        raise BadUrlError(f"longer than {MAX_URL} characters")
    url = url.strip(" ")
    end = _HOST_END.search(url, url.find("://") + 3)
    behind = end.start() if end else len(url)
    if found := _NOT_IN_HOST.search(url[:behind]) or _NOT_IN_PATH.search(url, behind):
        raise BadUrlError(f"character {found[0]!r} in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadUrlError(str(error)) from error
    scheme = parts.scheme.lower()
    if scheme not in WEB_SCHEMES:
        raise BadUrlError(f"scheme {scheme!r}; only http and https are fetched")
    if not url[len(scheme) :].startswith("://") or not parts.hostname:
        raise BadUrlError("no host")
    if "@" in parts.netloc:
        raise BadUrlError("user info before the host")
    if port == 0 or port in _BAD_PORTS:
        raise BadUrlError(f"port {port} belongs to another service")
    host = _host(parts.hostname, bracketed="[" in parts.netloc)
    path = remove_dot_segments(quote(parts.path.replace("\\", "/") or "/", safe=SAFE))
    path += f"?{quote(parts.query, safe=SAFE)}" if parts.query else ""
    target = FetchTarget("", scheme, host, port or WEB_SCHEMES[scheme], path)
    if len(target.origin) + len(path) > MAX_URL:
        raise BadUrlError(f"longer than {MAX_URL} characters when escaped")
    return FetchTarget(target.origin + path, scheme, host, target.port, path)


def _host(name: str, *, bracketed: bool) -> str:
    if "%" in name:
        raise BadUrlError(f"percent sign in the host {name!r}")
    if bracketed:
        try:
            return IPv6Address(name).compressed
        except AddressValueError as error:
            raise BadUrlError(f"host [{name}]: {error}") from error
    host = _ascii(name).removesuffix(".")
    labels = host.split(".")
    if _NUMBER.fullmatch(labels[-1]):  # the URL standard: such a host is an IPv4 address, in any of C's notations
        try:
            return str(IPv4Address(host))
        except AddressValueError as error:
            raise BadUrlError(f"host {host!r} is a number but not a plain IPv4 address") from error
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise BadUrlError(f"host {host!r} is no host name")
    if len(labels) == 1 or any(host == local or host.endswith(f".{local}") for local in _LOCAL_NAMES):
        raise BadUrlError(f"host {host!r} is a local name")
    return host


def _ascii(name: str) -> str:
    if name.isascii():
        return name.lower()
    import idna

    try:
        return idna.encode(name, uts46=True, std3_rules=True).decode()  # maps full-width digits and dots as browsers do
    except (idna.IDNAError, UnicodeError) as error:
        raise BadUrlError(f"host {name!r}: {error}") from error
