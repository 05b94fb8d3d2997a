"""Odd sites out of public bug reports, crawled together: each URL ends as it should, and no neighbour is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from handface.jobs import crawl as verb
from handface.pipeline.contract.images.picture import decode_image
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.url import owner_of
from handface.pipeline.sources import open_source
from tests.pipeline.fetch.server import IMAGE, Server
from tests.pipeline.fetch.test_upright import UPRIGHT, exif, saved, stored

DISALLOW = b"User-agent: *\nDisallow: /private/\n"
RESERVED = b'[{"location": "/", "tdm-reservation": 1}]'
STARS = b'[{"location": "/*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b$", "tdm-reservation": 1}]'
LONG = "/" + "a" * 120 + ".jpg"
TURNED = saved(stored(6), "WEBP", exif=exif(6))
KEPT = None


@dataclass(frozen=True)
class Site:
    """A host: files it answers with, and how each of its listed URLs must end."""

    files: dict[str, tuple[int, dict[str, str], bytes]]
    ends: dict[str, str | None]


def text(body: bytes | str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return (
        200,
        {name.replace("_", "-"): value for name, value in headers.items()},
        body.encode() if isinstance(body, str) else body,
    )


SITES = {
    "bom": Site({"/robots.txt": text(b"\xef\xbb\xbf" + DISALLOW)}, {"/private/a.jpg": "robots", "/a.jpg": KEPT}),
    "wide": Site({"/robots.txt": text(DISALLOW.decode().encode("utf-16"))}, {"/private/a.jpg": "robots"}),
    "version": Site({"/robots.txt": text(b"User-agent: HandFace/0.1\nDisallow: /\n")}, {"/a.jpg": "robots"}),
    "prefix": Site({"/robots.txt": text(b"User-agent: hand\nDisallow: /\n")}, {"/a.jpg": KEPT}),
    "garbled": Site({"/robots.txt": text(b"\x00\x01\x02")}, {"/a.jpg": "robots"}),
    "dots": Site(
        {"/robots.txt": text(DISALLOW)},
        {
            "/private/a.jpg": "robots",
            "/public/../private/b.jpg": "robots",
            "/./private/c.jpg": "robots",
            "/x/%2e%2E/private/d.jpg": "robots",
            "/x/../e.jpg": KEPT,
        },
    ),
    "aibom": Site({"/ai.txt": text(b"\xef\xbb\xbfUser-Agent: *\nDisallow: /\n")}, {"/a.jpg": "optout"}),
    "tdmbom": Site({"/.well-known/tdmrep.json": text(b"\xef\xbb\xbf" + RESERVED)}, {"/a.jpg": "optout"}),
    "tdmtrue": Site({"/.well-known/tdmrep.json": text(RESERVED.replace(b"1}", b"true}"))}, {"/a.jpg": "optout"}),
    "tdmhtml": Site({"/.well-known/tdmrep.json": text("<!doctype html><p>Welcome")}, {"/a.jpg": KEPT}),
    "stars": Site({"/.well-known/tdmrep.json": text(STARS)}, {LONG: KEPT}),
    "tags": Site(
        {
            "/a.jpg": text(IMAGE, X_Robots_Tag="noai noimageai"),
            "/b.jpg": text(IMAGE, X_Robots_Tag="noai;noimageai"),
            "/c.jpg": text(IMAGE, X_Robots_Tag="unavailable_after: Sat, 25 Jun 2039 15:00:00 GMT, noimageai"),
            "/d.jpg": text(IMAGE, X_Robots_Tag="max-image-preview:none"),
            "/e.jpg": text(IMAGE, X_Robots_Tag="unavailable_after: 25 Jun 2039 15:00:00 PST"),
            "/f.jpg": text(IMAGE, X_Robots_Tag="googlebot: noindex, noai"),
        },
        {"/a.jpg": "optout", "/b.jpg": "optout", "/c.jpg": "optout", "/d.jpg": KEPT, "/e.jpg": KEPT, "/f.jpg": KEPT},
    ),
    "codings": Site(
        {f"/{name}.jpg": text(IMAGE, Content_Encoding=name) for name in ("none", "UTF-8", "aws-chunked")},
        {f"/{name}.jpg": KEPT for name in ("none", "UTF-8", "aws-chunked")},
    ),
    "busy": Site(
        {
            "/zone.jpg": (503, {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +999999999999999999"}, b""),
            "/two.jpg": (503, {"Retry-After": "²"}, b""),
        },
        {"/a.jpg": KEPT, "/zone.jpg": "http_5xx", "/two.jpg": "http_5xx", "/b.jpg": KEPT},
    ),
    "spaces": Site({"/go": (302, {"Location": "/my other photo.jpg"}, b"")}, {"/my photo.jpg": KEPT, "/go": KEPT}),
    "turned": Site({"/turned.webp": text(TURNED)}, {"/turned.webp": KEPT}),
}
PAGES = {
    "/endif.html": ("<p>Saved from an office suite<![ endif]--></p><img src='inside.jpg'>", {"inside.jpg"}),
    "/foo.html": ("<![foo[x]]><!['><img src=foo.jpg>", {"foo.jpg"}),
    "/minified.html": ("<img src=s.jpg srcset='s.jpg 300w,m.jpg 600w,wide.jpg 1200w'>", {"wide.jpg"}),
    "/number.html": ("<img src=fallback.jpg srcset='a.jpg .x, b.jpg 1.2.3x'>", {"fallback.jpg"}),
    "/space.html": ("<img src='summer day 1.jpg'><img src='plain.jpg'>", {"summer%20day%201.jpg", "plain.jpg"}),
}
SITEMAP = '\n<?xml version="1.0" encoding="UTF-8"?><urlset><url><loc>{page}</loc><image><loc>{image}</loc></image></url></urlset>'


@pytest.fixture(scope="module")
def crawled(tmp_path_factory) -> Iterator[tuple[Path, Server, dict[str, str | None]]]:
    """One crawl of everything; its folder, the server, and {address: reason}."""
    folder = tmp_path_factory.mktemp("cases")
    names = {f"{name}.test": "127.0.0.1" for name in [*SITES, "pages"]}
    http = HttpConfig(timeout=5.0, host_interval=0.0, backoff=0.01, open_ranges=("127.0.0.0/8",), resolve=names)
    with Server() as server:
        for name, site in SITES.items():
            for path in ("/robots.txt", "/ai.txt", "/.well-known/tdmrep.json"):
                server.files[f"{name}.test", path].append((404, {}, b""))
            for path, answer in site.files.items():
                server.files[f"{name}.test", path][:] = [answer]
        for path, (body, _) in PAGES.items():
            server.files["pages.test", path].append(text(f"<html>{body}", Content_Type="text/html"))
        sitemap = SITEMAP.format(
            page=server.url("/p.html", "pages.test"), image=server.url("/mapped.jpg", "pages.test")
        )
        server.files["pages.test", "/map.xml"].append(text(sitemap))
        server.files["pages.test", "/p.html"].append(text("<html>nothing here"))
        urls = [server.url(path, f"{name}.test") for name, site in SITES.items() for path in site.ends]
        listing = folder / "urls.csv"
        listing.write_text("url\n" + "".join(f"{url}\n" for url in urls))
        config = verb.Config(
            input=(str(listing),),
            seeds=tuple(server.url(path, "pages.test") for path in PAGES),
            sitemaps=(server.url("/map.xml", "pages.test"),),
            output=str(folder / "out"),
            contact="me@example.org",
            http=http,
            local=True,
        )
        start = time.monotonic()
        assert verb.run(config) == 0
        assert time.monotonic() - start < 60
        rows = pq.read_table(folder / "out" / "urls.parquet").to_pylist()
        # The server's picture is the same everywhere; a copy was fetched and permitted like the first.
        yield (
            folder / "out",
            server,
            {row["uri"]: (row["reason"] or "").replace("duplicate", "") or None for row in rows},
        )


@pytest.mark.parametrize("name", SITES)
def test_each_url_ends_as_it_should(crawled, name):
    _, server, ends = crawled
    expected = SITES[name].ends
    # as an address can be copied
    rows = {path: ends[server.url(path, f"{name}.test").replace(" ", "%20")] for path in expected}
    assert rows == expected


@pytest.mark.parametrize("path", PAGES)
def test_the_pictures_of_each_page_are_kept(crawled, path):
    _, server, ends = crawled
    kept = {url.rpartition("/")[2] for url, reason in ends.items() if reason is None and owner_of(url) == "pages.test"}
    assert ends[server.url(path, "pages.test")] == "page" and PAGES[path][1] <= kept


def test_a_sitemap_may_begin_with_a_line_break_and_no_url_is_made_up(crawled):
    _, server, ends = crawled
    assert ends[server.url("/mapped.jpg", "pages.test")] is None
    assert not [url for url in ends if "," in url or "600w" in url]


def test_no_request_carries_dot_segments_or_spaces(crawled):
    _, server, _ = crawled
    assert not any("/." in path.replace("/.well-known", "") for path in server.paths("dots.test"))
    assert "/private/b.jpg" not in server.paths("dots.test")


def test_the_turned_picture_is_stored_upright(crawled):
    out, server, _ = crawled
    (item,) = (item for item in open_source([str(out)]) if item.origin == server.url("/turned.webp", "turned.test"))
    data = Path(item.uri).read_bytes()[item.offset : item.offset + item.size]
    assert (decode_image(data) == UPRIGHT).all()


def test_every_unit_was_finished_at_once(crawled):
    out, _, _ = crawled
    manifests = [json.loads(path.read_text()) for path in out.glob("round-*/part-*.json")]
    assert manifests and all(manifest.get("inputs") for manifest in manifests)
