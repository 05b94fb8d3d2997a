"""Every row of the published matrix ends with its reason, and nothing closed is ever connected to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from handface.pipeline.contract.images.picture import RejectedImage
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.crawler import Crawler
from handface.pipeline.fetch.original import KeepConfig, make_original
from tests.pipeline.fetch.hostile import ANSWERS, NAMES, URLS
from tests.pipeline.fetch.server import IMAGE, Server

CONFIG = HttpConfig(
    max_bytes=1 << 20, timeout=3.0, attempts=1, host_interval=0.0, host_failures=1000, host_concurrency=64,
    open_ranges=("127.0.0.1/32",), resolve={"b.test": "127.0.0.1"},
)  # fmt: skip


def ask(urls: list[str], config: HttpConfig = CONFIG, **options):
    """Fetch side by side, names resolved from the matrix' table."""

    async def lookup(name: str) -> list[str]:
        if name not in NAMES:
            raise OSError("no such name")
        return NAMES[name]

    async def go():
        crawler = Crawler(config, lookup, **options)
        try:
            return await asyncio.gather(*(crawler.fetch(url) for url in urls))
        finally:
            await crawler.close()

    return asyncio.run(go())


@pytest.fixture(scope="module")
def server():
    with Server() as running:
        yield running


def test_the_matrix_is_large_enough_and_has_no_row_twice():
    assert len({url for url, _, _ in URLS}) == len(URLS) and len(URLS) + len(ANSWERS) >= 80


def test_each_hostile_url_ends_with_its_reason():
    closed = HttpConfig(timeout=1.0, attempts=1, host_interval=0.0)
    answers = ask([url for url, _, _ in URLS], closed)
    wrong = [
        (url, reason, answer) for (url, reason, _), answer in zip(URLS, answers, strict=True) if answer.reason != reason
    ]
    assert not wrong
    assert all(answer.data is None and answer.detail for answer in answers)


def test_each_hostile_answer_ends_with_its_reason(server):
    wrong = []
    answers = ask([server.url(path) for path, _, _ in ANSWERS])
    for (path, reason, _), answer in zip(ANSWERS, answers, strict=True):
        found = answer.reason
        if answer.data is not None:
            try:
                make_original(answer.data, KeepConfig())
            except RejectedImage as refused:
                found = refused.reason
        if found != reason:
            wrong.append((path, reason, found, answer.detail))
    assert not wrong


@pytest.mark.parametrize(
    "path", ["/a.jpg", "/redirect-here", "/gzip-good", "/deflate-raw", "/other-noai", "/redirect-there"]
)
def test_what_is_allowed_arrives(server, path):
    (answer,) = ask([server.url(path)])
    assert answer.data == IMAGE and answer.evidence["decision"] == "permitted"


def test_a_redirect_to_another_owner_is_handed_over(server):
    (answer,) = ask([server.url("/redirect-there")], stay=True)
    assert answer.reason == "moved" and answer.location == server.url("/a.jpg", "b.test")


def test_a_name_is_resolved_once_and_the_connection_goes_there(server):
    """DNS rebinding: the second answer would be another address, but nobody asks a second time."""
    turns = iter([["127.0.0.1"], ["10.0.0.1"]])

    async def lookup(name: str) -> list[str]:
        return next(turns)

    async def go():
        crawler = Crawler(CONFIG, lookup)
        try:
            return [await crawler.fetch(server.url(f"/{i}a.jpg", "rebinding.test")) for i in range(3)]
        finally:
            await crawler.close()

    assert [answer.data for answer in asyncio.run(go())] == [IMAGE] * 3


def test_the_docs_show_the_matrix():
    text = (Path(__file__).parents[3] / "docs/crawling.md").read_text()
    for what, reason, why in (*URLS, *ANSWERS):
        assert f"| {_shown(what)} | `{reason}` | {why} |" in text


def _shown(what: str) -> str:
    shown = what if len(what) < 100 else what[:40] + "…"
    return "`" + shown.encode("unicode_escape").decode() + "`"
