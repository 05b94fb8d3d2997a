"""What one input does inside a stage ends that input: 64 good ones beside a poisoned one are always kept, in every list of stages."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.contract.storage import StorageError
from handface.pipeline.crawl.rounds import Crawl, CrawlConfig
from handface.pipeline.engine.executor import execute
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.run import prepare
from handface.pipeline.engine.stage import ChainError, Stage, check_chain, run_stages
from handface.pipeline.stages.decode import DecodeStage
from handface.pipeline.stages.filters.dedupe import DedupeConfig, DedupeStage
from handface.pipeline.stages.filters.quality import QualityStage
from handface.pipeline.stages.read import ReadStage
from handface.pipeline.stages.recipe import AnnotateConfig, build_stages
from tests.pipeline.fetch.server import Server
from tests.pipeline.fetch.test_crawl import HOSTS, HTTP
from tests.pipeline.images import encode, photo
from tests.pipeline.toy_stages import ToyPack, toy_sample

GOOD = 64


class Poison(Stage):
    """Wraps a real stage and raises at the poisoned input, after the stage has worked on it and on those before it."""

    def __init__(self, stage: Stage, error: Exception) -> None:
        self.stage, self.error = stage, error
        self.name, self.reads, self.writes, self.drops = stage.name, stage.reads, stage.writes, stage.drops

    def setup(self) -> None:
        self.stage.setup()

    def start_unit(self) -> None:
        self.stage.start_unit()

    def __call__(self, batch: Sequence[Record]) -> None:
        if any("poison" in record.item.uri for record in batch):
            if len(batch) > 1:
                self.stage([record for record in batch if "poison" in record.item.uri])
            raise self.error
        self.stage(batch)


class PackPhoto(Stage):
    """A sample per photo, without networks."""

    name, reads, writes = "pack", ("image", "sha256"), ("sample",)

    def __call__(self, batch: Sequence[Record]) -> None:
        for record in batch:
            record.sample = toy_sample(int(str(record.sha256)[:6], 16), record.item.uri)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(GOOD + 1):
        name = "030-poison.jpg" if number == 30 else f"{number:03d}.jpg"
        (folder / name).write_bytes(encode(photo(128, 128, seed=number)))
    return folder


def local_stages() -> list[Stage]:
    return [ReadStage(), DecodeStage(), DedupeStage(DedupeConfig(max_distance=0)), QualityStage(), PackPhoto()]


@pytest.mark.parametrize("at", ["read", "decode", "dedupe", "quality", "pack"])
@pytest.mark.parametrize("error", [ValueError("²"), AssertionError(), UnicodeEncodeError("utf-8", "\udce9", 0, 1, "x")])
def test_64_neighbours_of_a_poisoned_input_are_kept(photos: Path, tmp_path: Path, at: str, error: Exception) -> None:
    stages = [Poison(stage, error) if stage.name == at else stage for stage in local_stages()]
    listed = [SourceItem(str(path)) for path in sorted(photos.iterdir())]

    def start() -> list:
        run = prepare(
            ["x"], AnnotateConfig(unit_size=65), str(tmp_path), list_inputs=lambda: listed, stages=lambda c, d: stages
        )
        return list(execute(run, workers=1, local=True))

    (result,) = start()
    assert result.error is None and result.manifest is not None and result.manifest.kept == GOOD
    (part,) = read_parts(str(tmp_path))
    (row,) = [row for row in part.rows().to_pylist() if not row["kept"]]
    assert row["uri"].endswith("030-poison.jpg") and (row["reason"], row["stage"]) == ("failed", at)
    assert type(error).__name__ in row["detail"]
    assert start() == []  # a rerun does not ask again


def test_the_real_stages_all_stand_behind_the_guard() -> None:
    assert all(stage.guarded for stage in build_stages(AnnotateConfig(), day="2026-01-01"))


def test_pages_and_headers_that_break_a_parser_cost_their_own_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a parser raises, also what nobody has thought of: here the page reader and the packing of one picture."""
    import handface.pipeline.crawl.stage as stage

    make, read = stage.make_original, stage.read_page
    poisoned = encode(photo(seed=999))

    def fragile(data: bytes, *arguments, **options):
        if data == poisoned:
            raise OverflowError("date value out of range")
        return make(data, *arguments, **options)

    def broken(*_):
        raise AssertionError("expected error")

    monkeypatch.setattr(stage, "make_original", fragile)
    monkeypatch.setattr(stage, "read_page", broken)
    assert read is not broken
    with Server(tuple(sorted(set(HOSTS.values())))) as server:
        for number in range(GOOD):
            server.files["h0.test", f"/{number}.jpg"].append((200, {}, encode(photo(seed=number))))
        server.files["h0.test", "/poison.jpg"].append((200, {}, poisoned))
        server.files["h0.test", "/page"].append((200, {"Content-Type": "text/html"}, b"<html><img src=/1.jpg>"))
        items = [SourceItem(server.url(f"/{number}.jpg", "h0.test")) for number in range(GOOD)]
        items.insert(20, SourceItem(server.url("/poison.jpg", "h0.test")))
        items.insert(
            10, SourceItem(server.url("/page", "h0.test"), columns=(("crawl_depth", "0"), ("crawl_role", "page")))
        )
        crawl = Crawl(str(tmp_path), CrawlConfig(http=replace(HTTP, host_concurrency=8)), ("x",))
        for run in crawl.runs(lambda: items):
            assert [result.error for result in execute(run, workers=1, local=True)] == [None]
        asked = len(server.asked)
        for run in crawl.runs(lambda: items):
            assert not run.pending
        assert len(server.asked) == asked
    rows = [row for part in read_parts(str(tmp_path / "round-00")) for row in part.rows().to_pylist()]
    assert sum(row["kept"] for row in rows) == GOOD
    ends = {row["uri"].rpartition("/")[2]: (row["reason"], row["detail"]) for row in rows if not row["kept"]}
    assert ends == {
        "poison.jpg": ("failed", "OverflowError: date value out of range"),
        "page": ("failed", "AssertionError: expected error"),
    }


# What a stranger's server sends, by name, header, page and picture: (path, role, status, headers, body).
HOSTILE = {
    "name": ("/caf%E9%00%ff .jpg?\u202e=\u00b2", "", 404, {}, b""),
    "zone": ("/zone.jpg", "", 503, {"Retry-After": "Mon, 01 Jan 2024 00:00:00 +999999999999999999"}, b""),
    "digit": ("/digit.jpg", "", 503, {"Retry-After": "\u00b2"}, b""),
    "page": ("/page", "page", 200, {"Content-Type": "text/html"}, b"<![ endif]--><img srcset='/1.jpg 1.2.3x, /2.jpg .x'><!['"),
    "sitemap": ("/map.xml", "sitemap", 200, {"Content-Type": "text/xml"}, b"\n<?xml version='1.0'?><urlset><url>"),
    "picture": ("/cut.jpg", "", 200, {"Content-Type": "image/jpeg"}, encode(photo(seed=999))[:900]),
}  # fmt: skip


def test_64_neighbours_of_what_strangers_send_are_kept_by_a_crawl(tmp_path: Path) -> None:
    with Server(tuple(sorted(set(HOSTS.values())))) as server:
        items = []
        for number in range(GOOD):
            server.files["h0.test", f"/{number}.jpg"].append((200, {}, encode(photo(seed=number))))
            items.append(SourceItem(server.url(f"/{number}.jpg", "h0.test")))
        for path, role, status, headers, body in HOSTILE.values():
            server.files["h1.test", path].append((status, headers, body))
            columns = (("crawl_depth", "0"), ("crawl_role", role)) if role else ()
            items.insert(20, SourceItem(server.url(path, "h1.test"), columns=columns))
        http = replace(HTTP, host_concurrency=8, attempts=1)
        run = next(Crawl(str(tmp_path), CrawlConfig(http=http), ("x",)).runs(lambda: items))
        assert [result.error for result in execute(run, workers=1, local=True)] == [None]
    rows = [row for part in read_parts(str(tmp_path / "round-00")) for row in part.rows().to_pylist()]
    assert len(rows) == GOOD + len(HOSTILE)
    assert [row["kept"] for row in rows if "h0.test" in row["uri"]] == [True] * GOOD
    assert not [row for row in rows if row["reason"] == "failed"]


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"a\xff\xfe.jpg"])
def test_names_that_are_not_utf8_have_rows_and_samples(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / os.fsdecode(name)).write_bytes(encode(photo(seed=1)))
    (tmp_path / "photos" / "good.jpg").write_bytes(encode(photo(seed=2)))
    listed = [SourceItem(str(found)) for found in sorted((tmp_path / "photos").iterdir())]
    run = prepare(
        ["x"],
        AnnotateConfig(),
        str(tmp_path / "out"),
        list_inputs=lambda: listed,
        stages=lambda c, d: local_stages(),
    )
    (result,) = execute(run, workers=1, local=True)
    assert result.manifest is not None
    (part,) = read_parts(str(tmp_path / "out"))
    rows = part.rows().to_pylist()
    assert {row["uri"].rpartition("/")[2] for row in rows} == {
        "good.jpg",
        name.decode("utf-8", "surrogateescape").encode("utf-8", "backslashreplace").decode(),
    }
    good = next(row for row in rows if row["uri"].endswith("good.jpg"))
    assert good["kept"]
    assert len(list(part.samples())) == result.manifest.kept


def test_a_full_disk_is_nobodys_fault() -> None:
    class Full(Stage):
        name, writes = "full", ("packed",)

        def __call__(self, batch: Sequence[Record]) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="Free some space"):
        list(run_stages([Full()], [Record(SourceItem("a")), Record(SourceItem("b"))]))


def test_a_record_comes_to_the_next_try_as_it_was() -> None:
    seen = []

    class Greedy(Stage):
        name = "greedy"

        def __call__(self, batch: Sequence[Record]) -> None:
            for record in batch:
                seen.append((len(record.annotators), len(record.evidence)))
                record.annotators.append("again")  # type: ignore[arg-type]
                record.evidence["x"] = "y"
                record.detail = "changed"
            raise RuntimeError

    record = Record(SourceItem("a"), evidence={"robots": "yes"})
    list(run_stages([Greedy()], [record]))
    assert seen == [(0, 1)] * 3
    assert (record.annotators, record.evidence, record.reason) == ([], {"robots": "yes"}, Reason.FAILED)


# --- the chain ---


class NeedsCrop(Stage):
    name, reads, writes = "needs-crop", ("crop",), ("sample",)


def test_a_stage_that_reads_what_nobody_wrote_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(ChainError, match="stage needs-crop reads crop, which no stage before it leaves"):
        prepare(
            ["x"],
            AnnotateConfig(),
            str(tmp_path / "out"),
            list_inputs=lambda: [],
            stages=lambda c, d: [ReadStage(), DecodeStage(), NeedsCrop()],
        )
    assert not (tmp_path / "out").exists()


def test_order_and_dropped_fields_are_checked() -> None:
    real = build_stages(AnnotateConfig(), day="2026-01-01")
    check_chain(real)
    by_name = {stage.name: stage for stage in real}
    swapped = [stage for stage in real if stage.name != "contact"]
    with pytest.raises(ChainError, match="stage keypoints reads face, person_hands, scores"):
        check_chain(swapped)
    with pytest.raises(ChainError, match=r"stage quality reads image, .*\(crop drops it\)"):
        check_chain([*real[: real.index(by_name["crop"]) + 1], by_name["quality"], *real[-2:]])
    with pytest.raises(ChainError, match="none of the stages read writes packed or reason or sample"):
        check_chain(real[:1])
    odd = ToyPack()
    odd.writes = ("sampel",)
    with pytest.raises(ChainError, match="stage pack names sampel: no field of a record"):
        check_chain([odd])
