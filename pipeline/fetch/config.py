"""What a fetch may cost, whom it says it is, and what it asks permission of."""

from __future__ import annotations

from dataclasses import dataclass, field

from handface.pipeline.contract.config import Count
from handface.version import __version__

PRODUCT = "handface"  # the product token that robots.txt groups name


@dataclass(frozen=True)
class HttpConfig:
    """Caps, politeness and consent of every request."""

    max_bytes: Count = 32 << 20
    """Bodies longer than this are cut off and rejected, counted after decompression."""
    max_expansion: float = 20.0
    """A compressed transfer that grows by more than this factor (beyond 1 MB) is a bomb."""
    timeout: float = 20.0
    """Seconds for one request, redirects and body included; waiting for the host's turn does not count."""
    max_redirects: int = 5
    """Redirects followed, each checked like a new URL."""
    concurrency: int = 64
    """Requests under way at once per worker."""
    host_concurrency: int = 2
    """Requests under way at once per host."""
    host_interval: float = 0.25
    """Seconds between the starts of two requests to a host; a longer crawl-delay of its robots.txt counts instead."""
    max_crawl_delay: float = 30.0
    """A host that asks for longer pauses is left alone."""
    host_seconds: float = 3600.0
    """Seconds one host may take of a work unit; its other URLs end as host_budget."""
    host_failures: int = 8
    """After so many failures to connect or answer in a row, the host's other URLs of the unit end the same way."""
    attempts: int = 3
    """Tries per URL for failures that may pass: 429, 5xx, timeouts, broken connections."""
    backoff: float = 1.0
    """Seconds before the second try, doubled for each further one, with jitter; Retry-After counts if longer."""
    max_wait: float = 120.0
    """A Retry-After longer than this ends the URL."""
    robots_age: float = 24 * 3600.0
    """Seconds that robots.txt, ai.txt and tdmrep.json are believed; at most 24 hours (RFC 9309)."""
    consent: bool = True
    """Whether robots.txt, ai.txt, TDMRep, X-Robots-Tag and data-mining notices are honoured; no-consent is for hosts of your own."""
    open_ranges: tuple[str, ...] = ()
    """Address ranges (CIDR) to allow besides the public ones, e.g. 127.0.0.0/8 in tests."""
    resolve: dict[str, str] = field(default_factory=dict)
    """Fixed addresses of hosts, as `curl --resolve`: `photos.test 127.0.0.2`. They are checked like any other."""
    user_agent: str = f"{PRODUCT}/{__version__} (dataset research; set a contact with --read.http.user-agent)"
    """Sent with every request; say who you are and how to reach you."""

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.host_concurrency < 1 or self.attempts < 1:
            raise ValueError("concurrency, host_concurrency and attempts must be at least 1")
        if not 0 < self.robots_age <= 24 * 3600:
            raise ValueError(f"robots_age is {self.robots_age:g} s; RFC 9309 allows at most 24 hours")


def user_agent(contact: str) -> str:
    """An honest User-Agent: product, version, contact. Raises ValueError if nobody could be reached by the contact."""
    if not (("@" in contact and "." in contact) or contact.startswith(("https://", "http://"))):
        raise ValueError(f"--contact {contact!r}: give an e-mail address or a web page where site owners reach you")
    if not contact.isascii() or not contact.isprintable():
        raise ValueError(f"--contact {contact!r}: printable ASCII only, it goes into a header")
    return f"{PRODUCT}/{__version__} (+{contact}; dataset research)"
