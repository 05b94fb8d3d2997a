"""A recheck never takes silence for a refusal: what was not asked is unknown, said so, and asked by the next run."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from handface.jobs.cli import main
from handface.pipeline.contract.storage import Folder
from handface.pipeline.crawl import recheck as module
from handface.pipeline.crawl.recheck import recheck
from handface.pipeline.fetch.config import HttpConfig
from tests.pipeline.fetch.server import IMAGE, Server

HTTP = HttpConfig(
    timeout=2.0, host_interval=0.0, backoff=0.01, open_ranges=("127.0.0.0/8",), user_agent="handface/test"
)  # fmt: skip


@pytest.fixture
def server():
    with Server() as running:
        yield running


def samples(server: Server, count: int) -> list[tuple[str, str]]:
    return [(f"{i:016x}", server.url(f"/{i}.jpg")) for i in range(count)]


def test_budgets_hold_per_batch_not_per_life(server, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 5)
    result = recheck(samples(server, 20), replace(HTTP, host_interval=0.05, host_seconds=0.6))
    assert result == module.Recheck()


def test_a_host_that_had_its_time_leaves_unknown_and_no_refusal(server, tmp_path):
    slow = replace(HTTP, host_interval=0.1, host_seconds=0.45)
    answers = Folder(str(tmp_path / "answers"))
    result = recheck(samples(server, 30), slow, answers=answers)
    assert not result.excluded and {one.reason for one in result.unknown} == {"host_budget"}
    assert recheck(samples(server, 30), HTTP, answers=answers) == module.Recheck()
    assert not (tmp_path / "answers").exists()


def test_a_host_that_wants_a_long_rest_leaves_unknown(server):
    server.files["127.0.0.1", "/3.jpg"].append((429, {"Retry-After": "3600"}, b""))
    result = recheck(samples(server, 12), replace(HTTP, host_concurrency=1))
    assert len(server.paths()) < 10
    assert not result.excluded
    assert {one.reason for one in result.unknown} == {"http_429"} and len(result.unknown) == 9


def test_a_host_that_fails_at_first_and_then_is_well_is_asked_again(server):
    server.files["127.0.0.1", "/robots.txt"] += [(500, {}, b"")] * 3 + [(404, {}, b"")]
    server.files["127.0.0.1", "/2.jpg"] += [(500, {}, b"")] * 3 + [(200, {}, IMAGE)]
    result = recheck(samples(server, 12), HTTP)
    assert result == module.Recheck()


def test_a_host_that_is_gone_is_listed_unless_it_is_to_be_kept():
    dead = [(f"{i:016x}", f"http://127.0.0.1:8009/{i}.jpg") for i in range(30)]
    http = replace(HTTP, attempts=1)
    assert [one.reason for one in recheck(dead, http).excluded] == ["network"] * 30
    assert recheck(dead, http, keep_unreachable=True) == module.Recheck()


def test_a_run_that_was_stopped_goes_on_where_it_was(server, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 4)
    answers = Folder(str(tmp_path / "answers"))
    server.files["127.0.0.1", "/5.jpg"].append((410, {}, b""))

    def stop(_: int) -> None:
        if len(answers.sizes()) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recheck(samples(server, 12), HTTP, answers=answers, progress=stop)
    before = len(server.asked)
    result = recheck(samples(server, 12), HTTP, answers=answers)
    assert [one.uri for one in result.excluded] == [server.url("/5.jpg")]
    assert {path for path in server.paths()[before:] if path.endswith(".jpg")} == {f"/{i}.jpg" for i in range(8, 12)}


def test_an_impossible_retry_after_ends_nothing(server):
    for value in (
        "²",
        "Wed, 21 Oct 99999999999999999999 07:28:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +999999999999999999",
    ):
        server.files["127.0.0.1", "/1.jpg"].append((429, {"Retry-After": value}, b""))
    result = recheck(samples(server, 4), HTTP)
    assert {one.uri: one.reason for one in result.excluded} == {server.url("/1.jpg"): "http_429"}


def test_the_verb_says_what_is_unknown_and_ends_with_1(server, tmp_path, capsys, monkeypatch):
    listed = samples(server, 8)
    monkeypatch.setattr(module, "kept_samples", lambda folders, damage: iter(listed))
    server.files["127.0.0.1", "/0.jpg"].append((503, {"Retry-After": "86400"}, b""))
    server.files["127.0.0.1", "/0.jpg"].append((200, {}, IMAGE))
    output = tmp_path / "excluded.parquet"
    flags = ["--contact", "me@example.org", "--http.open-ranges", "127.0.0.0/8", "--http.host-interval", "0"]
    command = ["recheck", "parts", "--output", str(output), "--http.host-concurrency", "1", *flags]
    assert main(command) == 1
    assert "8 not asked" in capsys.readouterr().out and pq.read_table(output).num_rows == 0
    assert main(command) == 0 and pq.read_table(output).num_rows == 0
    assert [path.name for path in tmp_path.iterdir() if not path.is_dir()] == ["excluded.parquet"]


def test_a_site_whose_permission_could_not_be_asked_for_in_time_is_unknown(server):
    server.files["127.0.0.1", "/robots.txt"].append((429, {"Retry-After": "3600"}, b""))
    result = recheck(samples(server, 5), HTTP)
    assert not result.excluded and len(result.unknown) == 5 and server.paths() == ["/robots.txt"]
    slow = replace(HTTP, host_interval=0.4, host_seconds=0.3)
    other = [("0" * 16, f"http://localhost.test:{server.port}/0.jpg")]
    result = recheck(other, replace(slow, resolve={"localhost.test": "127.0.0.1"}))
    assert not result.excluded and [one.reason for one in result.unknown] == ["host_budget"]
