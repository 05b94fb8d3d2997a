"""The crawl as a whole, against a local server: politeness as the server sees it, one row per URL, rounds, resume, retry."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from handface import __version__
from handface.jobs import crawl as verb
from handface.jobs.cli import main
from handface.pipeline.contract.exclusion import Exclusion
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.names.url_names import url_name
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.storage import Folder
from handface.pipeline.crawl.plan import plan_lanes
from handface.pipeline.crawl.recheck import Recheck, kept_samples, recheck, write_exclusions
from handface.pipeline.crawl.stage import LinkConfig
from handface.pipeline.engine.funnel import Funnel
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.run_record import ConfigMismatchError
from handface.pipeline.engine.units import read_plan, read_unit
from handface.pipeline.fetch.config import HttpConfig, user_agent
from handface.pipeline.fetch.network.http import fetch_all
from handface.pipeline.fetch.network.url import owner_of
from handface.pipeline.fetch.pages.links import read_page
from handface.pipeline.fetch.pages.srcset import srcset_best
from handface.pipeline.sources import open_source
from handface.pipeline.stages.read import ReadStage
from handface.trainers.data.shards.store import excluded_keys
from tests.pipeline.fetch.server import IMAGE, Server
from tests.pipeline.images import encode, photo

HOSTS = {f"h{i}.test": f"127.0.0.{i + 1}" for i in range(4)} | {"b.test": "127.0.0.1"}
HTTP = HttpConfig(
    timeout=2.0, host_interval=0.0, backoff=0.01, open_ranges=("127.0.0.0/8",), resolve=HOSTS, user_agent="handface/test"
)  # fmt: skip


@pytest.fixture
def server():
    with Server(tuple(sorted(set(HOSTS.values())))) as running:
        for number, host in enumerate(HOSTS):
            for i in range(12):
                running.files[host, f"/{i}.jpg"].append((200, {}, encode(photo(seed=i + 100 * number))))
        yield running


def start(folder: Path, server: Server, urls: list[str], **options) -> Path:
    """Run the verb in this process; its output folder."""
    listing = folder / "urls.csv"
    listing.write_text("url,licence,author\n" + "".join(f"{url},CC BY 4.0,A. Person\n" for url in urls))
    given = {"http": HTTP, "local": True, "unit_size": 8, "lane_units": 1} | options
    config = verb.Config(input=(str(listing),), output=str(folder / "out"), contact="me@example.org", **given)
    assert verb.run(config) == 0
    return folder / "out"


def rows(out: Path) -> list[dict]:
    return pq.read_table(out / "urls.parquet").to_pylist()


def test_the_server_never_sees_more_than_the_limit_and_every_pause_is_kept(server, tmp_path):
    server.delay = 0.01
    urls = [server.url(f"/{i}.jpg", host) for i in range(12) for host in ("h0.test", "h1.test", "h2.test")]
    out = start(tmp_path, server, urls, http=replace(HTTP, host_interval=0.03, host_concurrency=2))
    assert all(server.most[host] <= 2 for host in HOSTS)
    for host in ("h0.test", "h1.test", "h2.test"):
        times = [when for when, asked, _ in server.asked if asked == host]
        assert len(times) == 15  # robots.txt, ai.txt, tdmrep.json and 12 pictures
        # a busy machine may deliver one request late and the next in time, so no single gap is telling
        assert median(b - a for a, b in itertools.pairwise(times)) > 0.02 and times[-1] - times[0] > 14 * 0.03 - 0.1
    assert Counter(row["reason"] for row in rows(out)) == {None: 36}
    assert (
        server.agents
        == {user_agent("me@example.org")}
        == {f"handface/{__version__} (+me@example.org; dataset research)"}
    )


def test_crawl_delay_means_one_at_a_time(server, tmp_path):
    server.files["h0.test", "/robots.txt"].append((200, {}, b"User-agent: *\nCrawl-delay: 0.2\n"))
    server.files["h1.test", "/robots.txt"].append((200, {}, b"User-agent: handface\nCrawl-delay: 900\n"))
    out = start(tmp_path, server, [server.url(f"/{i}.jpg", host) for i in range(3) for host in ("h0.test", "h1.test")])
    times = [when for when, asked, path in server.asked if asked == "h0.test" and path.endswith("jpg")]
    assert server.most["h0.test"] <= 2 and min(b - a for a, b in itertools.pairwise(times)) > 0.18
    assert {row["reason"] for row in rows(out) if "h1" in row["uri"]} == {"robots"}
    assert "/0.jpg" not in server.paths("h1.test")


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_is_busy_gets_its_rest_and_is_asked_again(server, tmp_path, status):
    picture = server.files["h0.test", "/0.jpg"][0]
    server.files["h0.test", "/0.jpg"][:] = [(status, {"Retry-After": "1"}, b""), picture]
    out = start(tmp_path, server, [server.url("/0.jpg", "h0.test"), server.url("/1.jpg", "h1.test")])
    first, second = (when for when, _, path in server.asked if path == "/0.jpg")
    assert second - first >= 0.99 and {row["reason"] for row in rows(out)} == {None}


def test_robots_that_cannot_be_read_close_the_site_and_4xx_opens_it(server, tmp_path):
    for host, status in (("h0.test", 500), ("h1.test", 403), ("h2.test", 429), ("h3.test", 404)):
        server.files[host, "/robots.txt"].append((status, {}, b""))
    out = start(tmp_path, server, [server.url("/0.jpg", host) for host in HOSTS if host[0] == "h"])
    ends = {owner_of(row["uri"]): row["reason"] for row in rows(out)}
    assert ends == {"h0.test": "robots", "h1.test": None, "h2.test": "robots", "h3.test": None}
    assert "/0.jpg" not in server.paths("h0.test") + server.paths("h2.test")


def test_every_url_is_one_row_and_evidence_and_licence_stay_with_the_picture(server, tmp_path):
    exif = encode(photo(seed=5), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0", comment=b"secret")
    server.files["h0.test", "/exif.jpg"].append((200, {}, exif))
    paths = ("/0.jpg", "/exif.jpg", "/private/x.jpg", "/404", "/noai", "/html-as-jpeg", "/truncated")
    urls = [server.url(path, "h0.test") for path in paths]
    urls += ["http://10.0.0.1/a.jpg", "ftp://h0.test/a", "http://nowhere.test/a.jpg"]
    out = start(tmp_path, server, urls, http=replace(HTTP, attempts=1))
    found = {row["uri"]: row for row in rows(out)}
    assert len(found) == len(rows(out)) == len(urls)
    ends = [found[url]["reason"] for url in urls]
    assert ends[:7] == [None, None, "robots", "http_404", "optout", "not_image", "network"]
    assert ends[7:] == ["bad_address", "unknown_scheme", "dns"]
    assert dict(found[urls[0]]["evidence"])["decision"] == "permitted"
    items = {item.origin: item for item in open_source([str(out)])}
    assert set(items) == set(urls[:2])
    columns = dict(items[urls[1]].columns)
    assert columns["licence"] == "CC BY 4.0" and columns["author"] == "A. Person"
    assert columns["evidence.exif"] == "present" and columns["evidence.robots.txt"].startswith("sha256")
    records = [Record(item) for item in items.values()]
    stage = ReadStage()
    stage.setup()
    stage(records)
    assert b"Exif" not in records[1].data and b"secret" not in records[1].data


def test_a_redirect_to_another_host_is_asked_by_its_owner_in_the_next_round(server, tmp_path):
    there = server.url("/7.jpg", "h1.test")
    server.files["h0.test", "/go"].append((302, {"Location": there}, b""))
    out = start(tmp_path, server, [server.url("/go", "h0.test")])
    first, second = sorted(rows(out), key=lambda row: row["round"])
    assert first["reason"] == "moved" and second["uri"] == there and second["kept"] and second["author"] == "A. Person"
    assert dict(second["columns"])["moved_from"] == server.url("/go", "h0.test")


def test_only_the_failures_that_are_named_are_asked_again(server, tmp_path):
    picture = server.files["h0.test", "/0.jpg"][0]
    server.files["h0.test", "/0.jpg"][:] = [(500, {}, b""), picture]
    http = replace(HTTP, attempts=1)
    urls = [server.url(path, "h0.test") for path in ("/0.jpg", "/404", "/1.jpg")]
    start(tmp_path, server, urls, http=http)
    before = len(server.asked)
    out = start(tmp_path, server, urls, http=http, retry_failed="http_5xx,timeout")
    assert [
        path for _, _, path in server.asked[before:] if "." in path and "txt" not in path and "tdm" not in path
    ] == ["/0.jpg"]
    assert {row["uri"]: row["reason"] for row in rows(out)} == dict(zip(urls, (None, "http_404", None), strict=True))
    again = len(server.asked)
    start(tmp_path, server, urls, http=http, retry_failed="http_5xx,timeout")
    assert len(server.asked) == again
    with pytest.raises(ValueError, match="no such reason"):
        start(tmp_path, server, urls, http=http, retry_failed="bad-luck")


def test_a_crawl_that_is_run_again_asks_only_for_what_is_missing_and_gives_the_same_bytes(server, tmp_path):
    urls = [server.url(f"/{i}.jpg", host) for i in range(10) for host in ("h0.test", "h1.test")]
    out = start(tmp_path, server, urls)
    parts = {path.name: path.read_bytes() for path in (out / "round-00").glob("part-*")}
    victim = sorted((out / "round-00").glob("part-*.json"))[0]
    lost = json.loads(victim.read_text())["inputs"]
    victim.unlink()
    before = len(server.asked)
    start(tmp_path, server, urls)
    pictures = [path for _, _, path in server.asked[before:] if path.endswith(".jpg")]
    assert len(pictures) == lost <= 8
    assert {path.name: path.read_bytes() for path in (out / "round-00").glob("part-*")} == parts


def test_a_damaged_part_of_a_finished_crawl_is_mended_by_the_same_command(server, tmp_path):
    urls = [server.url(f"/{i}.jpg", host) for i in range(10) for host in ("h0.test", "h1.test")]
    out = start(tmp_path, server, urls)
    parts = {path.name: path.read_bytes() for path in (out / "round-00").glob("part-*")}
    victim = sorted((out / "round-00").glob("part-*.tar"))[0]
    lost = json.loads(victim.with_suffix(".json").read_text())["inputs"]
    victim.write_bytes(victim.read_bytes()[:5000])
    before = len(server.asked)
    start(tmp_path, server, urls)
    assert len([path for _, _, path in server.asked[before:] if path.endswith(".jpg")]) == lost
    assert {path.name: path.read_bytes() for path in (out / "round-00").glob("part-*")} == parts
    assert len(rows(out)) == len(urls) and all(row["kept"] for row in rows(out))


def test_failures_can_be_asked_again_and_again(server, tmp_path):
    server.files["h0.test", "/0.jpg"][:] = [(429, {}, b""), (429, {}, b""), server.files["h0.test", "/0.jpg"][0]]
    http, urls = replace(HTTP, attempts=1), [server.url("/0.jpg", "h0.test"), server.url("/1.jpg", "h0.test")]
    for kept in (1, 1, 2, 2):
        out = start(
            tmp_path, server, urls, http=http, **({"retry_failed": "http_429"} if (tmp_path / "out").exists() else {})
        )
        assert sum(row["kept"] for row in rows(out)) == kept
    asked = [path for _, _, path in server.asked]
    assert asked.count("/0.jpg") == 3 and asked.count("/1.jpg") == 1
    assert len(json.loads((out / "crawl.json").read_text())["rounds"]) == 3  # nothing to retry makes no round


def test_a_page_that_was_read_well_is_no_rejection(server, tmp_path, capsys):
    server.files["h0.test", "/start"].append(
        (200, {"Content-Type": "text/html"}, b"<html><img src=/1.jpg><img src=/404>")
    )
    out = start(tmp_path, server, [], seeds=(server.url("/start", "h0.test"),))
    (page,) = list(read_parts(str(out / "round-00")))
    assert (page.manifest.rejected, page.manifest.ended) == ({}, {"crawl": {"page": 1}})
    funnel = Funnel()
    funnel.add(page.manifest)
    assert [(row.reasons, row.ended) for row in funnel.rows() if row.stage == "crawl"] == [({}, {"page": 1})]
    assert "1 of 3 URLs kept" in capsys.readouterr().out


def test_pages_are_followed_breadth_first_within_the_site(server, tmp_path):
    def page(host: str, path: str, text: str) -> None:
        server.files[host, path].append((200, {"Content-Type": "text/html"}, f"<html>{text}".encode()))

    page("h0.test", "/start", f'<meta property="og:image" content="/0.jpg"><img src="/1.jpg"><a href="/two">x</a>'
         f'<a href="{server.url("/other", "h1.test")}">x</a><a rel=nofollow href="/not">x</a>')  # fmt: skip
    page(
        "h0.test",
        "/two",
        '<img srcset="/2.jpg 1x, /3.jpg 2x"><img data-src="/4.jpg" src="data:image/gif;base64,R0"><a href="/three">x</a>',
    )
    page("h0.test", "/noai-page", '<meta name="robots" content="noimageai"><img src="/5.jpg">')
    seeds = (server.url("/start", "h0.test"), server.url("/noai-page", "h0.test"))
    out = start(tmp_path, server, [], seeds=seeds, links=LinkConfig(depth=1))
    assert sorted(row["uri"].rpartition("/")[2] for row in rows(out) if row["kept"]) == [
        "0.jpg",
        "1.jpg",
        "3.jpg",
        "4.jpg",
    ]
    assert {row["page"] for row in rows(out) if row["kept"]} == {seeds[0], server.url("/two", "h0.test")}
    assert not {"/three", "/not", "/5.jpg", "/2.jpg"} & set(server.paths("h0.test")) and not server.paths("h1.test")


def test_sitemaps_and_their_indexes_lead_to_pictures(server, tmp_path):
    index = f"<sitemapindex><sitemap><loc>{server.url('/map.xml', 'h0.test')}</loc></sitemap></sitemapindex>"
    image = f"<i:image xmlns:i='http://www.google.com/schemas/sitemap-image/1.1'><i:loc>{server.url('/8.jpg', 'h0.test')}</i:loc></i:image>"
    listed = f"<urlset><url><loc>{server.url('/page', 'h0.test')}</loc>{image}</url></urlset>"
    server.files["h0.test", "/index.xml"].append((200, {}, index.encode()))
    server.files["h0.test", "/map.xml"].append((200, {}, listed.encode()))
    server.files["h0.test", "/page"].append((200, {}, b"<html><img src=/9.jpg>"))
    out = start(tmp_path, server, [], sitemaps=(server.url("/index.xml", "h0.test"),))
    assert sorted(row["uri"].rpartition("/")[2] for row in rows(out) if row["kept"]) == ["8.jpg", "9.jpg"]


def test_recheck_lists_what_is_no_longer_permitted(server, tmp_path):
    urls = [server.url(f"/{i}.jpg", host) for i, host in enumerate(("h0.test", "h0.test", "h1.test", "h2.test"))]
    out = start(tmp_path, server, urls)
    assert recheck(list(kept_samples([str(out)])), HTTP) == Recheck()
    server.files["h0.test", "/0.jpg"][:] = [(410, {}, b"")]
    server.files["h1.test", "/robots.txt"].append((200, {}, b"User-agent: *\nDisallow: /\n"))
    server.files["h2.test", "/3.jpg"][:] = [(200, {"X-Robots-Tag": "noml"}, IMAGE)]
    found = recheck(list(kept_samples([str(out)])), HTTP).excluded
    assert {one.uri: one.reason for one in found} == {urls[0]: "http_404", urls[2]: "robots", urls[3]: "optout"}
    write_exclusions(str(tmp_path / "x.parquet"), found)
    kept = {row["uri"]: row["key"] for row in rows(out)}
    excluded = excluded_keys(str(tmp_path / "x.parquet"))  # as the trainer's loader reads it
    assert sorted(excluded) == sorted(kept[url] for url in (urls[0], urls[2], urls[3]))


def test_the_recheck_verb_writes_a_list_that_annotate_honours(server, tmp_path, capsys):
    urls = [server.url(f"/{i}.jpg", "h0.test") for i in range(3)]
    out, excluded = start(tmp_path, server, urls), tmp_path / "excluded.parquet"
    server.files["h0.test", "/1.jpg"][:] = [(200, {"X-Robots-Tag": "noai"}, IMAGE)]
    flags = ["--contact", "me@example.org", "--http.open-ranges", "127.0.0.0/8", "--http.host-interval", "0"]
    resolve = ["--http.resolve", *(word for pair in HOSTS.items() for word in pair)]
    assert main(["recheck", str(out), "--output", str(excluded), *flags, *resolve]) == 0
    assert "3 pictures from the web, 1 to exclude: optout 1" in capsys.readouterr().out
    assert Exclusion.read(str(excluded)).uris == {url_name(urls[1])}
    flags = ["--local", "--dedupe.exclude", str(excluded), "--detect.segmenter", "off"]
    assert main(["annotate", "--input", str(out), "--output", str(tmp_path / "parts"), *flags]) == 0
    found = pq.ParquetDataset(sorted((tmp_path / "parts").glob("part-*.parquet"))).read().to_pylist()
    assert [row["reason"] for row in found].count("excluded") == 1 and len(found) == 3


def test_what_a_list_names_is_not_asked_for_and_a_copy_at_another_address_is_not_kept(server, tmp_path):
    taken, there = server.url("/0.jpg", "h0.test"), server.url("/9.jpg", "h1.test")
    copied, fine = server.url("/1.jpg", "h0.test"), server.url("/2.jpg", "h0.test")
    server.files["h0.test", "/go"].append((302, {"Location": there}, b""))
    sha256 = hashlib.sha256(server.files["h0.test", "/1.jpg"][0][2]).hexdigest()
    table = pa.table({"uri": [taken, there, None], "original_sha256": [None, None, sha256]})
    pq.write_table(table, tmp_path / "tombstones.parquet")
    listed = {"exclude": (str(tmp_path / "tombstones.parquet"),)}
    out = start(tmp_path, server, [taken, copied, fine, server.url("/go", "h0.test")], **listed)
    ends = {row["uri"]: row["reason"] for row in rows(out)}
    assert ends == {
        taken: "excluded",
        copied: "excluded",
        fine: None,
        server.url("/go", "h0.test"): "moved",
        there: "excluded",
    }
    assert "/0.jpg" not in server.paths("h0.test") and not server.paths("h1.test")  # not even their robots.txt
    pq.write_table(table.slice(0, 2), tmp_path / "tombstones.parquet")
    with pytest.raises(ConfigMismatchError, match="exclude_digest"):
        start(tmp_path, server, [taken, copied, fine, server.url("/go", "h0.test")], **listed)


def test_all_urls_of_a_host_are_in_one_lane_and_nothing_is_lost(tmp_path):
    items = [SourceItem(f"http://{'www.' * (i % 2)}host{i % 37}.example.com/{i}.jpg") for i in range(1000)]
    folder = Folder(str(tmp_path))
    refs = plan_lanes(items, folder, 16, "x", lane_units=4)
    assert read_plan(folder) == refs and len({ref.lane for ref in refs}) > 3
    lanes: dict[str | None, set[int]] = {}
    planned = []
    for ref in refs:
        for item in read_unit(folder, ref).items:
            lanes.setdefault(owner_of(item.uri), set()).add(ref.lane)
            planned.append(item)
    assert sorted(planned, key=lambda item: item.id) == sorted(items, key=lambda item: item.id)
    assert len(lanes) == 37 and all(len(found) == 1 for found in lanes.values())


def test_a_host_that_does_not_answer_is_given_up(server):
    dead = [f"http://127.0.0.1:8009/{i}.jpg" for i in range(30)]
    answers = fetch_all(dead, replace(HTTP, attempts=1))
    assert {answer.reason for answer in answers} == {Reason.NETWORK}


def test_a_host_that_has_had_its_time_gets_no_more_while_others_go_on(server):
    slow = [server.url(f"/{i}.jpg", "h0.test") for i in range(12)]
    quick = server.url("/0.jpg", "h1.test")
    answers = fetch_all([*slow, quick], replace(HTTP, host_interval=0.15, host_seconds=1.0))
    reasons = Counter(answer.reason for answer in answers[:-1])
    assert set(reasons) == {None, Reason.HOST_BUDGET} and reasons[Reason.HOST_BUDGET] >= 4
    assert answers[-1].data == server.files["h1.test", "/0.jpg"][0][2]


def test_srcset_and_pages_that_are_broken():
    assert srcset_best("a.jpg 320w, b.jpg 1280w, c.jpg 640w") == "b.jpg"
    assert srcset_best("only.jpg") == "only.jpg" and srcset_best("") is None
    links = read_page(
        b"<html><base href='/sub/'><img src=a.jpg><img src='http://user@x/'><a href='http://[bad'>",
        "http://h.example.com/",
    )
    assert links.images == ["http://h.example.com/sub/a.jpg"] and links.pages == []
