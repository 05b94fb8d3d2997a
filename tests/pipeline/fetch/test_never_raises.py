"""Seeded mutations of headers, pages, sitemaps, permission files and URLs against everything that promises not to raise."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from multidict import CIMultiDict

from handface.pipeline.contract.names.addresses import AddressRefusedError, may_open
from handface.pipeline.contract.names.url_names import canonical_url, url_name
from handface.pipeline.contract.text import UnreadableTextError, decode_text
from handface.pipeline.fetch.network.host_gate import retry_after
from handface.pipeline.fetch.network.url import BadUrlError, owner_of, parse
from handface.pipeline.fetch.pages.links import read_page
from handface.pipeline.fetch.pages.sitemap import BadSitemapError, read_sitemap
from handface.pipeline.fetch.pages.srcset import srcset_best
from handface.pipeline.fetch.pages.tags import PageTooSlowError
from handface.pipeline.fetch.permission.optout import header_refusal, image_refusal, tag_refusal
from handface.pipeline.fetch.permission.robots import read_robots
from handface.pipeline.fetch.permission.tdmrep import parse_tdmrep

# Seconds each mutator runs; a longer search: HANDFACE_FUZZ_SECONDS=60 pytest ...
SECONDS = float(os.environ.get("HANDFACE_FUZZ_SECONDS", "2"))
SLOWEST = 2.0  # CPU seconds that one small input may take

HEADERS = (
    *(
        "120",
        "Fri, 31 Dec 1999 23:59:59 GMT",
        "Mon, 01 Jan 2024 00:00:00 +0100",
        "²",
        "1e9",
        "Sun Nov  6 08:49:37 1994",
    ),
    *(
        "noai, noimageai",
        "otherbot: noindex",
        "unavailable_after: 25 Jun 2010 15:00:00 PST, max-image-preview:none",
        "*: none",
    ),
)
PAGES = (
    "<!doctype html><html><meta name=robots content='noai'><img src=a.jpg srcset='a.jpg 1x, b.jpg 2x'><a href='/b'>b</a></html>",
    "<p>office<![ endif]--></p><![CDATA[x]]><!-- c --><script>if (a < b) {}</script><img src='&amp;&#x41;&notin;.jpg'>",
    "<base href='http://h.example.com/x/'><picture><source srcset='a.jpg 100w,b.jpg 200w' sizes=1></picture><style>a{}</style>",
    "<meta charset=latin-1><link rel=license href=//l.example.com><area href=?q><img data-src='my photo.jpg' src=\"data:,\">",
)
SITEMAPS = (
    "<?xml version='1.0' encoding='UTF-8'?><urlset><url><loc>http://h/a</loc><image><loc>http://h/b.jpg</loc></image></url></urlset>",
    "<sitemapindex xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><sitemap><loc>http://h/a.xml</loc></sitemap></sitemapindex>",
    "http://h.example.com/a\nhttps://h.example.com/b\n",
)
POLICIES = (
    "User-agent: *\nDisallow: /private/*.jpg$\nAllow: /private/a%2Ab\nCrawl-delay: 1.5\n\nUser-agent: HandFace/0.1\nDisallow: /\n",
    '[{"location": "/*a*b$", "tdm-reservation": 1, "tdm-policy": "https://h/p"}, {"location": "/", "tdm-reservation": "0"}]',
    "# nothing\nContent-Signal: ai-train=no\nRequest-rate: 1/10s\nSitemap: http://h/s.xml\n",
)
URLS = (
    *(
        "http://h.example.com/a/../b.jpg?x=1#y",
        "https://user:p@h.example.com:8443/%2e%2e/%zz",
        "http://[2001:db8::1]:80/a b",
    ),
    *(
        "//h.example.com\\a",
        "http://bücher.example/ü",
        "simplecache::http://127.0.0.1/a",
        "file:///etc/../passwd",
        "s3://b/a::b",
    ),
)
PIECES = (
    "<",
    ">",
    "\0",
    "\ufeff",
    "²",
    "'",
    '"',
    "&#",
    "%",
    "%2e",
    "..",
    "://",
    "::",
    "*",
    "$",
    "[",
    "]",
    "\r\n",
    "\ud800",
    "9" * 30,
    ",",
    "=",
)


def mutated(seed: str, chance: random.Random) -> str:
    """A text with pieces cut out, doubled, put in, or changed."""
    text = seed
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(text) + 1)
        length = chance.choice((0, 1, 1, 3, 17))
        how = chance.randrange(5)
        piece = chance.choice(PIECES) if how else text[at : at + length] * chance.choice((2, 5, 50))
        if how == 1:
            piece *= chance.choice((1, 3, 40))
        elif how == 2:
            piece = chr(chance.choice((chance.randrange(128), chance.randrange(0x3000), 0x10FFFF)))
        text = text[:at] + piece + text[at + length * chance.randrange(2) :]
    return text


def as_bytes(text: str, chance: random.Random) -> bytes:
    encoding = chance.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    body = bytearray(text.encode(encoding, "replace"))
    for _ in range(chance.randrange(3)):
        if body:
            body[chance.randrange(len(body))] = chance.randrange(256)
    return bytes(body)


def look_at_header(text: str, chance: random.Random) -> None:
    retry_after(text)
    tag_refusal([text])
    header_refusal(CIMultiDict([("X-Robots-Tag", text), ("TDM-Reservation", text), ("Content-Usage", text)]))


def look_at_page(text: str, chance: random.Random) -> None:
    try:
        read_page(as_bytes(text, chance), "http://h.example.com/dir/page.html")
    except PageTooSlowError as error:
        raise AssertionError(f"{len(text)} characters take too long") from error
    srcset_best(text)


def look_at_sitemap(text: str, chance: random.Random) -> None:
    try:
        read_sitemap(as_bytes(text, chance))
    except BadSitemapError as error:
        assert str(error)


def look_at_policy(text: str, chance: random.Random) -> None:
    body = as_bytes(text, chance)
    parse_tdmrep(body).reserves("/private/a.jpg")
    image_refusal(b"\x89PNG\r\n\x1a\n" + body)
    try:
        read_robots(body).permits("/" + text[:50])
        decode_text(body)
    except UnreadableTextError as error:
        assert str(error)


def look_at_url(text: str, chance: random.Random) -> None:
    owner_of(text)
    url_name(text)
    assert canonical_url(canonical_url(text)) == canonical_url(text)
    for read in (parse, parse("http://h.example.com/dir/").join):
        try:
            target = read(text)
        except BadUrlError as error:
            assert str(error)
        else:
            assert target.url.isascii() and target.url.isprintable() and " " not in target.url
            assert "/../" not in target.url.partition("?")[0] and parse(target.url) == target
    for listing in (None, "lists/urls.csv", "s3://bucket/urls.csv"):
        try:
            may_open(text, listing=listing)
        except AddressRefusedError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("seeds", "look"),
    [
        pytest.param(HEADERS, look_at_header, id="headers"),
        pytest.param(PAGES, look_at_page, id="pages"),
        pytest.param(SITEMAPS, look_at_sitemap, id="sitemaps"),
        pytest.param(POLICIES, look_at_policy, id="policies"),
        pytest.param(URLS, look_at_url, id="urls"),
    ],
)
def test_nothing_raises_and_nothing_is_slow(seeds: tuple[str, ...], look: Callable[[str, random.Random], None]) -> None:
    chance, until, rounds = random.Random(20261128), time.monotonic() + SECONDS, 0
    while time.monotonic() < until or rounds < 200:
        text = mutated(chance.choice(seeds), chance)
        start = time.process_time()
        try:
            look(text, chance)
        except Exception as error:
            raise AssertionError(f"round {rounds}: {text!r}") from error
        assert time.process_time() - start < SLOWEST, f"round {rounds}: {text!r}"
        rounds += 1
