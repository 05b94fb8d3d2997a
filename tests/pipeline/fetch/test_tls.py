"""Certificates: checked, and against the name that was asked for although the connection goes to a pinned address."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator

import pytest
import trustme
from aiohttp import web

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.crawler import Crawler
from tests.pipeline.fetch.server import IMAGE

NAMES = {"photos.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]}
CONFIG = HttpConfig(open_ranges=("127.0.0.0/8",), timeout=5.0, attempts=1, host_interval=0.0)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def port(authority: trustme.CA) -> Iterator[int]:
    """A server with a certificate for photos.test: an image, and no robots.txt."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("photos.test").configure_cert(context)
    loop, ready, found = asyncio.new_event_loop(), threading.Event(), []

    async def answer(request: web.Request) -> web.Response:
        return (
            web.Response(body=IMAGE, content_type="image/jpeg")
            if request.path == "/a.jpg"
            else web.Response(status=404)
        )

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        found.append(site._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]
        ready.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(serve()), loop.run_forever()), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield found[0]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)


def fetch(url: str):  # type: ignore[no-untyped-def]
    async def lookup(name: str) -> list[str]:
        return NAMES[name]

    async def go():  # type: ignore[no-untyped-def]
        crawler = Crawler(CONFIG, lookup)
        try:
            return await crawler.fetch(url)
        finally:
            await crawler.close()

    return asyncio.run(go())


def test_a_certificate_that_nobody_vouches_for_ends_as_tls(port: int) -> None:
    answer = fetch(f"https://photos.test:{port}/a.jpg")
    assert answer.reason == Reason.TLS and answer.data is None and "CERTIFICATE_VERIFY_FAILED" in answer.detail


def test_a_certificate_is_checked_against_the_name_and_not_the_address(
    port: int, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)
    assert fetch(f"https://photos.test:{port}/a.jpg").data == IMAGE
    assert fetch(f"https://other.test:{port}/a.jpg").reason == Reason.TLS


def test_a_server_that_speaks_no_tls_is_named() -> None:
    from tests.pipeline.fetch.server import Server

    with Server() as plain:
        answer = fetch(f"https://photos.test:{plain.port}/a.jpg")
    assert answer.reason in (Reason.TLS, Reason.NETWORK) and answer.data is None and answer.detail
