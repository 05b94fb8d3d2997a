"""robots.txt as RFC 9309 and strict readers understand it: its own examples, odd encodings, names, patterns."""

from __future__ import annotations

import codecs
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.contract.text import UnreadableTextError
from handface.pipeline.fetch.permission.robots import product_token, read_robots

# RFC 9309, 5.1
SIMPLE = b"""User-Agent: *
Disallow: *.gif$
Disallow: /example/
Allow: /publications/

User-Agent: foobot
Disallow:/
Allow:/example/page.html
Allow:/example/allowed.gif

User-Agent: barbot
User-Agent: bazbot
Disallow: /example/page.html

User-Agent: quxbot
"""


def permits(text: str | bytes, path: str, product: str = "handface") -> bool:
    return read_robots(text if isinstance(text, bytes) else text.encode(), product).permits(path)


@pytest.mark.parametrize(
    ("product", "path", "permitted"),
    [
        ("other", "/publications/", True),
        ("other", "/example/", False),
        ("other", "/a.gif", False),
        ("other", "/a.gif?b", True),
        ("other", "/", True),
        ("foobot", "/", False),
        ("foobot", "/example/page.html", True),
        ("foobot", "/example/allowed.gif", True),
        ("barbot", "/example/page.html", False),
        ("bazbot", "/example/page.html", False),
        ("barbot", "/example/", True),
        ("quxbot", "/example/a.gif", True),
    ],
)
def test_the_simple_example_of_the_rfc(product, path, permitted):
    assert permits(SIMPLE, path, product) is permitted


def test_the_longest_match_of_the_rfc():
    text = "User-Agent: foobot\nAllow: /example/page/\nDisallow: /example/page/disallowed.gif\n"
    assert not permits(text, "/example/page/disallowed.gif", "foobot")
    assert permits(text, "/example/page/b.gif", "foobot")
    assert permits("User-agent: *\nDisallow: /a\nAllow: /a\n", "/a"), "of equals, allow (RFC 9309, 2.2.2)"


def test_groups_of_one_crawler_are_one_and_replace_those_for_everybody():
    text = "user-agent: handface\ndisallow: /foo\ndisallow: /bar\nuser-agent: *\ndisallow: /all\nuser-agent: HandFace\ndisallow: /baz\n"
    assert [permits(text, path) for path in ("/foo", "/bar", "/baz", "/all")] == [False, False, False, True]


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("/foo/bar?baz=quz", "/foo/bar?baz=quz"),  # RFC 9309, 2.2.2
        ("/foo/bar?baz=https://foo.bar", "/foo/bar?baz=https%3A%2F%2Ffoo.bar"),
        ("/foo/bar?baz=https://foo.bar", "/foo/bar?baz=https://foo.bar"),
        ("/foo/bar/ツ", "/foo/bar/%E3%83%84"),
        ("/foo/bar/%E3%83%84", "/foo/bar/%e3%83%84"),
        ("/foo/bar/%62%61%7A", "/foo/bar/baz"),
        ("/path/file-with-a-%2A.html", "/path/file-with-a-*.html"),  # 2.2.3
        ("/path/foo-%24", "/path/foo-$"),
        ("/this/*/exactly", "/this/is/not/exactly"),
        ("*/exactly$", "/this/exactly"),
        ("/a*b*c", "/a--b--c--"),
        ("/a b", "/a%20b"),
        ("/a%20b", "/a b"),
        ("/a(b)", "/a%28b%29"),
        ("private/", "/private/x"),
        ("http://h.example.com/private/", "/private/x"),
        ("/private/", "//private/x"),
        ("?sid=", "/page?sid=1"),
        ("/*a*a*a*a*a*a*b$", "/aaaaaaab"),
    ],
)
def test_patterns_that_match(rule, path):
    assert not permits(f"User-agent: *\nDisallow: {rule}\n", path)


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("/private/", "/private"),
        ("/private/", "/Private/x"),
        ("/a$", "/ab"),
        ("/*ab$", "/a"),
        ("/ab*ab$", "/ab"),
        ("/a*b*c", "/a--c--b"),
        ("/foo-%24", "/foo-"),
        ("", "/anything"),
    ],
)
def test_patterns_that_do_not(rule, path):
    assert permits(f"User-agent: *\nDisallow: {rule}\n", path)


@pytest.mark.parametrize(
    "name",
    ["handface", "HandFace", "HANDFACE/0.1", "handface/0.1 (dataset)", "handface 2", "other, handface", "*", ""],
)
def test_names_that_are_us(name):
    assert not permits(f"User-agent: {name}\nDisallow: /\n", "/a.jpg")


@pytest.mark.parametrize(
    "name", ["hand", "face", "handfaces", "hand-face", "handface-images", "xhandface", "Googlebot", "h"]
)
def test_names_that_are_not_us(name):
    assert permits(f"User-agent: {name}\nDisallow: /\n", "/a.jpg")
    assert not permits(f"User-agent: {name}\nAllow: /\n\nUser-agent: *\nDisallow: /\n", "/a.jpg")


def test_product_tokens():
    names = ("HandFace/0.1", " *", "*foo", "360Spider", "")
    assert [product_token(name) for name in names] == ["handface", "*", "", "", ""]


@pytest.mark.parametrize(
    "encoded",
    [
        codecs.BOM_UTF8 + b"%s",
        codecs.BOM_UTF8 * 2 + b"%s",
        b"\n\n" + codecs.BOM_UTF8 + b"%s",
        b"%s",
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b"\n\n"])
def test_a_byte_order_mark_hides_nothing(encoded, end):
    assert not permits(encoded % end.join((b"User-agent: *", b"Disallow: /", b"")), "/a.jpg")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig", "latin-1"])
def test_other_encodings_are_read(encoding):
    text = (
        "User-agent: *\nDisallow: /privé/\n" if encoding != "latin-1" else "# privé\nUser-agent: *\nDisallow: /priv\n"
    )
    assert not permits(text.encode(encoding), "/priv%C3%A9/a.jpg")
    assert permits(text.encode(encoding), "/a.jpg")


@pytest.mark.parametrize(
    "body", [b"\x00\x01\x02\x03", b"\x1f\x8b\x08\x00" + bytes(40), b"not found", b"Usr-agnt: *\nDislow: /"]
)
def test_what_cannot_be_understood_forbids(body):
    with pytest.raises(UnreadableTextError):
        read_robots(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n \n",
        b"# nothing\n",
        b"<!doctype html><p>Disallow: /",
        b"\xef\xbb\xbf\n<html>",
        b"Sitemap: /a",
        b"\xff\xd8\xff\xe0" + bytes(90),
    ],
)
def test_what_says_nothing_permits(body):
    assert read_robots(body).permits("/a.jpg")


def test_misspellings_and_lost_colons_are_understood():
    for line in ("Disalow: /", "disallow /", "DISALLOW :/", "Disallow:\t/ # all"):
        assert not permits(f"user agent: *\n{line}\n", "/a.jpg")
    assert not permits("Disallow: /\n", "/a.jpg"), "a rule before any group is meant for everybody"


@pytest.mark.parametrize(
    ("lines", "delay"),
    [
        ("Crawl-delay: 2.5", 2.5),
        ("Request-rate: 1/10s", 10.0),
        ("Request-rate: 2/1m", 30.0),
        ("Request-rate: 1/5 0600-0845\nCrawl-delay: 3", 5.0),
        ("Crawl-delay: soon", None),
        ("Crawl-delay: -4\nRequest-rate: 0/0", None),
        ("Crawl-delay: nan\nRequest-rate: /", None),
        ("Crawl-delay: ²", None),
    ],
)
def test_pauses(lines, delay):
    assert read_robots(f"User-agent: *\n{lines}\nDisallow: /x\n".encode()).crawl_delay == delay


def test_usage_signals_against_training():
    assert read_robots(b"User-agent: *\nContent-Signal: search=yes, ai-train=no\nAllow: /\n").signal
    assert read_robots(b"User-agent: *\nContent-Usage: train-ai=n\nAllow: /\n").signal
    assert read_robots(b"User-agent: *\nContent-Signal: ai-train=yes\nAllow: /\n").signal is None
    assert (
        read_robots(b"User-agent: x\nContent-Signal: ai-train=no\nAllow: /\n\nUser-agent: *\nAllow: /\n").signal is None
    )


def test_a_file_full_of_rules_is_compiled_once_and_matched_fast():
    rules = read_robots(b"User-agent: *\n" + b"".join(b"Disallow: /%d/*a*a*a*a*b$\n" % i for i in range(20_000)))
    start = time.process_time()
    assert all(rules.permits("/x/" + "a" * 500) for _ in range(20))
    assert time.process_time() - start < 2


@given(st.binary(max_size=300), st.text(max_size=80))
@settings(max_examples=200, deadline=None)
def test_no_bytes_and_no_path_raise(body, path):
    try:
        read_robots(b"User-agent: *\nDisallow: " + body).permits("/" + path)
        read_robots(body).permits(path)
    except UnreadableTextError as error:
        assert str(error)
