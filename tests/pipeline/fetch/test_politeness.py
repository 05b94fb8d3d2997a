"""Politeness as the server sees it: rests, crawl-delays, budgets, and few descriptors whatever the number of hosts."""

from __future__ import annotations

import itertools
import os
import resource
import time
from collections import Counter
from dataclasses import replace

import pytest

from handface.pipeline.contract.inputs import Reason
from handface.pipeline.fetch.config import HttpConfig
from handface.pipeline.fetch.network.host_gate import retry_after
from handface.pipeline.fetch.network.http import Fetcher
from tests.pipeline.fetch.server import IMAGE, Server

NAMES = {f"n{i}.test": "127.0.0.1" for i in range(900)}
HTTP = HttpConfig(timeout=5.0, host_interval=0.0, backoff=0.01, open_ranges=("127.0.0.0/8",), resolve=NAMES)


@pytest.fixture
def server():
    with Server() as running:
        yield running


def fetch(urls: list[str], config: HttpConfig = HTTP):
    with Fetcher(config) as fetcher:
        return fetcher.fetch(urls)


@pytest.mark.parametrize("status", [429, 503])
def test_a_long_rest_is_the_whole_hosts(server, status):
    server.files["n0.test", "/3.jpg"].append((status, {"Retry-After": "3600"}, b""))
    urls = [server.url(f"/{i}.jpg", "n0.test") for i in range(60)]
    start = time.monotonic()
    answers = fetch([*urls, server.url("/0.jpg", "n1.test")])
    assert time.monotonic() - start < 10 and len(server.paths("n0.test")) < 12
    reasons = Counter(answer.reason for answer in answers[:-1])
    expected = Reason.HTTP_429 if status == 429 else Reason.HTTP_5XX
    assert set(reasons) == {None, expected} and answers[-1].data == IMAGE
    assert [answer.asked for answer in answers[:-1]].count(False) >= 50
    assert all("rest" in answer.detail for answer in answers if not answer.asked)


def test_a_long_rest_outlives_the_unit(server):
    server.files["n0.test", "/0.jpg"].append((429, {"Retry-After": "3600"}, b""))
    with Fetcher(HTTP) as fetcher:
        fetcher.fetch([server.url("/0.jpg", "n0.test")])
        before = len(server.asked)
        fetcher.start_unit()
        (answer,) = fetcher.fetch([server.url("/1.jpg", "n0.test")])
    assert answer.reason == Reason.HTTP_429 and len(server.asked) == before


def test_a_robots_file_that_asks_for_a_long_rest_gets_it(server):
    server.files["n0.test", "/robots.txt"].append((429, {"Retry-After": "3600"}, b""))
    answers = fetch([server.url(f"/{i}.jpg", "n0.test") for i in range(5)])
    assert server.paths("n0.test") == ["/robots.txt"] and not any(answer.data for answer in answers)


def test_a_crawl_delay_means_one_at_a_time_also_with_slow_answers(server):
    server.files["n0.test", "/robots.txt"].append((200, {}, b"User-agent: *\nCrawl-delay: 0.05\n"))
    server.delay = 0.3
    answers = fetch([server.url(f"/{i}.jpg", "n0.test") for i in range(6)])
    assert all(answer.data for answer in answers)
    pictures = [when for when, _, path in server.asked if path.endswith(".jpg")]
    assert min(b - a for a, b in itertools.pairwise(pictures)) > 0.28 and server.most["n0.test"] == 1


def test_budgets_and_failures_are_forgotten_with_each_unit(server):
    slow = replace(HTTP, host_interval=0.05, host_seconds=0.5)
    with Fetcher(slow) as fetcher:
        for start in range(0, 25, 5):
            fetcher.start_unit()
            answers = fetcher.fetch([server.url(f"/{i}.jpg", "n0.test") for i in range(start, start + 5)])
            assert all(answer.data for answer in answers)


def test_broken_bodies_do_not_close_a_host_that_answers(server):
    urls = [server.url("/encoding", "n0.test")] * 12 + [server.url("/0.jpg", "n0.test")]
    answers = fetch(urls, replace(HTTP, attempts=1, host_concurrency=1))
    assert {answer.reason for answer in answers[:-1]} == {Reason.NETWORK} and answers[-1].data == IMAGE


@pytest.mark.parametrize("encoding", ["none", "UTF-8", "aws-chunked", "identity", "binary", ""])
def test_odd_content_encodings_are_plain_bodies(server, encoding):
    server.files["n0.test", "/robots.txt"].append((200, {"Content-Encoding": encoding}, b"User-agent: *\nAllow: /\n"))
    server.files["n0.test", "/0.jpg"].append((200, {"Content-Encoding": encoding}, IMAGE))
    (answer,) = fetch([server.url("/0.jpg", "n0.test")])
    assert answer.data == IMAGE and server.paths("n0.test").count("/0.jpg") == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 5 ", 5.0),
        ("1.5", 1.5),
        ("9" * 400, 366 * 24 * 3600.0),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 366 * 24 * 3600.0),
        ("²", None),
        ("-5", None),
        ("soon", None),
        ("", None),
        (None, None),
        ("Mon, 01 Jan 2024 00:00:00 +999999999999999999", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after(value) == seconds


def test_many_hosts_need_few_descriptors(server):
    """As under `ulimit -n 1024`: connections that wait for more of their host are closed before they fill the table."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    inside = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    most = 0
    with Fetcher(replace(HTTP, consent=False)) as fetcher:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(1024, inside + 900), hard))
        try:
            for start in range(0, 900, 300):
                urls = [server.url("/0.jpg", f"n{i}.test") for i in range(start, start + 300)]
                answers = fetcher.fetch(urls)
                assert {answer.reason for answer in answers} == {None}
                # The server of the test lives in this process: each connection has two ends here.
                most = max(most, len(os.listdir("/proc/self/fd")) - inside)  # noqa: PTH208
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert most < 2 * 256 + 64
