"""Which IP addresses a crawler may connect to: public unicast only, whatever notation or tunnel hides the rest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

# IANA special-purpose registries (RFC 6890 and successors), in the order in which they are looked through.
_REFUSED: tuple[tuple[str, str], ...] = (
    ("169.254.169.254/32", "cloud metadata"),
    ("169.254.170.2/32", "cloud metadata"),
    ("100.100.100.200/32", "cloud metadata"),
    ("192.0.0.192/32", "cloud metadata"),
    ("168.63.129.16/32", "cloud metadata"),
    ("fd00:ec2::254/128", "cloud metadata"),
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("::ffff:0:0:0/96", "IPv4-translated"),
    ("::/96", "IPv4-compatible"),
    ("64:ff9b::/96", "NAT64"),
    ("64:ff9b:1::/48", "NAT64"),
    ("100::/64", "discard"),
    ("2001::/32", "Teredo tunnel"),
    ("2001::/23", "protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4 tunnel"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fc00::/7", "unique local"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
_NETWORKS = tuple((ip_network(text), name) for text, name in _REFUSED)
_GLOBAL_V6 = ip_network("2000::/3")  # the only unicast space that is handed out


def parse_ranges(ranges: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """CIDR texts as networks. Raises ValueError naming the one that is none."""
    return tuple(ip_network(text) for text in ranges)


@lru_cache(maxsize=65536)
def refusal(address: str, opened: tuple[IPv4Network | IPv6Network, ...] = ()) -> str | None:
    """Why an address must not be connected to ("loopback", ...), or None. `opened` ranges are let through, for tests.

    Raises ValueError if it is no address. A zone (`%eth0`) is always refused: it only makes sense on a local link.
    """
    if "%" in address:
        return "zone id"
    ip: IPv4Address | IPv6Address = ip_address(address)
    if any(ip.version == network.version and ip in network for network in opened):
        return None
    for network, name in _NETWORKS:
        if ip.version == network.version and ip in network:
            return name
    if isinstance(ip, IPv6Address):
        if ip not in _GLOBAL_V6:
            return "not global unicast"
        if int(ip) >> 32 & 0xFCFFFFFF == 0x00005EFE:  # ISATAP (RFC 5214) carries an IPv4 address in the last 32 bits
            return "ISATAP tunnel"
    return None
