"""Pages and sitemaps as they stand on the web: broken, minified, hostile, in other encodings."""

from __future__ import annotations

import gzip
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.fetch.pages.links import read_page
from handface.pipeline.fetch.pages.sitemap import BadSitemapError, read_sitemap
from handface.pipeline.fetch.pages.srcset import srcset_best
from handface.pipeline.fetch.pages.tags import PageTooSlowError, start_tags

PAGE = "http://h.example.com/dir/page.html"


def images(body: str | bytes) -> list[str]:
    found = read_page(body if isinstance(body, bytes) else body.encode(), PAGE).images
    return [url.removeprefix("http://h.example.com/") for url in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<p>Saved from an office suite<![ endif]--></p><img src='in.jpg'>", ["dir/in.jpg"]),
        ("<![foo[x]]><![if !vml]><img src=a.jpg><![endif]>", ["dir/a.jpg"]),
        ("<!['><img src=a.jpg>", ["dir/a.jpg"]),
        ("<!-- <img src=no.jpg> --><img src=a.jpg>", ["dir/a.jpg"]),
        ("<!--><img src=a.jpg>", ["dir/a.jpg"]),
        ("<script>var a = '<img src=no.jpg>';</script><img src=a.jpg>", ["dir/a.jpg"]),
        ("<script></scripts><img src=no.jpg></SCRIPT ><img src=a.jpg>", ["dir/a.jpg"]),
        ("<style>x</style><IMG SRC=A.JPG>", ["dir/A.JPG"]),
        ("<img src='a&amp;b.jpg?x=1&copy=2'>", ["dir/a&b.jpg?x=1\u00a9=2".replace("\u00a9", "%C2%A9")]),
        ('<img src="summer day 1.jpg"><img src="plain.jpg">', ["dir/summer%20day%201.jpg", "dir/plain.jpg"]),
        ("<img src='\n /x\n/a.jpg '>", ["x/a.jpg"]),
        ("<img src='..\\up.jpg'>", ["up.jpg"]),
        ("<img src=../../../a.jpg><img src=./b.jpg>", ["a.jpg", "dir/b.jpg"]),
        ("<img alt='a > b' src=a.jpg><img/src=b.jpg><img src = c.jpg/>", ["dir/a.jpg", "dir/b.jpg", "dir/c.jpg/"]),
        ("<img src=first.jpg src=second.jpg>", ["dir/first.jpg"]),
        ("<img src='a.jpg'><img alt=\"never closed src=b.jpg><img src='c.jpg'>", ["dir/a.jpg"]),
        ("<img =x src=a.jpg><br/><img src=b.jpg", ["dir/a.jpg"]),
        ("<img src='http://[::1' alt=x><img src=http://user@x.example.com/a.jpg><img src=a.jpg>", ["dir/a.jpg"]),
        ("<img srcset='small.jpg 300w,middle.jpg 600w,wide.jpg 1200w' src=small.jpg>", ["dir/wide.jpg"]),
        ("<img src=fallback.jpg srcset='a.jpg .x, b.jpg 1.2.3x'>", ["dir/fallback.jpg"]),
        ("<img data-src='' src=a.jpg><noscript><img src=b.jpg></noscript>", ["dir/a.jpg", "dir/b.jpg"]),
        ("<textarea><img src=no.jpg></textarea><title><img src=no.jpg></title><img src=a.jpg>", ["dir/a.jpg"]),
        ("<base href='/other/'><img src=a.jpg>", ["other/a.jpg"]),
        ("\ufeff<img src=a.jpg>".encode("utf-16"), ["dir/a.jpg"]),
        ("<meta charset=latin-1><img src='ä.jpg'>".encode("latin-1"), ["dir/%C3%A4.jpg"]),
        ("<meta charset=punycode><meta charset=hex><img src='a.jpg'>", ["dir/a.jpg"]),
    ],
)
def test_pictures_of_odd_pages(text, found):
    assert images(text) == found


@pytest.mark.parametrize(
    ("value", "best"),
    [
        ("a.jpg 320w, b.jpg 1280w, c.jpg 640w", "b.jpg"),
        ("a.jpg 300w,b.jpg 600w,c.jpg 1200w", "c.jpg"),
        ("only.jpg", "only.jpg"),
        ("a.jpg, b.jpg 2x", "b.jpg"),
        ("a.jpg,b.jpg 2x", "a.jpg,b.jpg"),
        ("a.jpg .5x, b.jpg .25x", "a.jpg"),
        ("a.jpg .x, b.jpg 1.2.3x", None),
        ("a.jpg ²x", None),
        ("a.jpg 1e999x, b.jpg 1x", "b.jpg"),
        ("a.jpg 800w 600h, b.jpg 400w", "a.jpg"),
        ("data:image/png;base64,AA,BB 1x, b.jpg 2x", "b.jpg"),
        ("a.jpg (1, 2) 3w, b.jpg 1w", "b.jpg"),
        (",,, a.jpg 1x ,,", "a.jpg"),
        ("", None),
        (" , ", None),
    ],
)
def test_srcset_follows_the_standard(value, best):
    assert srcset_best(value) == best


@pytest.mark.parametrize(
    ("text", "refused", "followed"),
    [
        ("<meta name=robots content='noai, noimageai'>", True, True),
        ("<META NAME='Robots' CONTENT='NOAI noimageai'>", True, True),
        ("<meta name=robots content='max-image-preview:none'>", False, True),
        ("<meta name=robots content='max-image-preview:none, nofollow'>", False, False),
        ("<meta name=robots content=none>", True, False),
        ("<meta name=HandFace content=noindex>", True, True),
        ("<meta name=hand content=noindex>", False, True),
        ("<meta name=googlebot content='noindex, nofollow'>", False, True),
        ("<meta name=tdm-reservation content=true>", True, True),
        ("<meta name=tdm-reservation content=0>", False, True),
        ("<meta http-equiv=X-Robots-Tag content=noml>", True, True),
    ],
)
def test_what_a_page_says_about_its_use(text, refused, followed):
    links = read_page(f"<html>{text}<img src=a.jpg><a href=b.html>x</a>".encode(), PAGE)
    assert (bool(links.refusal), bool(links.images), bool(links.pages)) == (refused, not refused, followed)


@pytest.mark.parametrize(
    "piece",
    [
        "<!",
        "<![",
        "<!--",
        "<a ",
        '<a ="',
        "<a b='",
        "<img srcset='" + " " * 20_000 + "'>",
        "</",
        "<script>",
        "&" * 40,
        "<p/ / =",
    ],
)
def test_small_hostile_pages_cost_little(piece):
    start = time.process_time()
    read_page((piece * ((1 << 20) // len(piece))).encode(), PAGE)
    assert time.process_time() - start < 4


def test_a_page_has_a_deadline():
    with pytest.raises(PageTooSlowError):
        list(start_tags("<a>" * 5000, seconds=-1.0))


ENTRY = "<url><loc>http://h.example.com/p.html</loc></url>"


@pytest.mark.parametrize(
    "body",
    [
        f"<urlset>{ENTRY}</urlset>".encode(),
        f'\n<?xml version="1.0" encoding="UTF-8"?>\n<urlset>{ENTRY}</urlset>'.encode(),
        f'\ufeff\n<?xml version="1.0" encoding="UTF-8"?><urlset>{ENTRY}</urlset>'.encode(),
        f'<?xml version="1.0" encoding="UTF-16"?><urlset>{ENTRY}</urlset>'.encode("utf-16"),
        f'<?xml version="1.0" encoding="ISO-8859-1"?><!-- \u00e9 --><urlset>{ENTRY}</urlset>'.encode("latin-1"),
        gzip.compress(f"<urlset>{ENTRY}</urlset>".encode(), mtime=0),
        f"<urlset>{ENTRY}<url><loc>http://h/a&b".encode(),
        b"http://h.example.com/p.html\n",
        "\ufeffhttp://h.example.com/p.html\r\n".encode("utf-16"),
    ],
)
def test_sitemaps_are_read(body):
    assert read_sitemap(body).pages == ["http://h.example.com/p.html"]


@pytest.mark.parametrize(
    "body",
    [
        b"<!DOCTYPE x [<!ENTITY a 'b'>]><urlset/>",
        '<!DOCTYPE x [<!ENTITY a "b">]><urlset/>'.encode("utf-16"),
        b"<urlset",
        b"<urlset>" + b"<a>" * 100_000,
        b"<urlset><url>" + b"<a/>" * 100_000,
        b"\x1f\x8bbroken",
        b"\x00\x00\x00",
    ],
)
def test_sitemaps_that_are_refused(body):
    with pytest.raises(BadSitemapError):
        read_sitemap(body)


def test_a_large_sitemap_is_bounded():
    body = b"<urlset>" + ENTRY.encode() * 60_000 + b"</urlset>"
    assert len(read_sitemap(body).pages) == 50_000
    with pytest.raises(BadSitemapError, match="too long"):
        read_sitemap(body, seconds=-1.0)


@given(st.text(st.sampled_from(list("<>!-[]/='\" \nabimgsrcet&#;,0123.wx(")), max_size=200), st.binary(max_size=100))
@settings(max_examples=300, deadline=None)
def test_no_page_and_no_sitemap_raises(text, body):
    read_page(text.encode(), PAGE)
    read_page(b"<img srcset='" + text.encode() + b"'>" + body, PAGE)
    for each in (body, b"<urlset>" + text.encode(), b"\x1f\x8b" + body):
        try:
            read_sitemap(each)
        except BadSitemapError as error:
            assert str(error)
