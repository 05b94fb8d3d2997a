"""A crawl that is killed again and again, on a bad network: what it leaves, and what is published of it, is the undisturbed crawl's.

Byte for byte: every file of the crawl, and every file of the export.

Each run kills the driver or its worker with SIGKILL at seeded moments and starts the same command again until it ends well.
HANDFACE_CHAOS_RUNS sets how many runs there are (2 unless told).
"""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from handface.jobs import crawl as verb
from handface.pipeline.contract.sample import Crop, Labels, Sample, SampleMeta, Scores, Source, sample_key
from handface.pipeline.contract.storage import StorageError
from handface.pipeline.engine.executor import execute
from handface.pipeline.engine.run import prepare
from handface.pipeline.engine.stage import Stage
from handface.pipeline.export.config import ExportConfig
from handface.pipeline.export.release import release
from handface.pipeline.sources import open_source
from handface.pipeline.stages.read import ReadStage
from handface.pipeline.stages.recipe import AnnotateConfig
from tests.pipeline.engine.test_chaos import small_disk
from tests.pipeline.fetch.server import Server
from tests.pipeline.fetch.test_crawl import HOSTS, HTTP
from tests.pipeline.images import encode, photo

ROOT = Path(__file__).parents[3]
RUNS = int(os.environ.get("HANDFACE_CHAOS_RUNS", "2"))
KILLS = 2  # per run
_BAD = ("/truncated", "/reset", "/garbage", "/404", "/500", "/noai", "/cut-jpeg")
_DRIVER = "import sys; from tests.pipeline.fetch.test_crawl_chaos import crawl; sys.exit(crawl(*sys.argv[1:3]))"


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    """A list of URLs whose server always misbehaves alike: restarts must not change what a URL ends as."""
    with Server(tuple(sorted(set(HOSTS.values())))) as server:
        server.delay = 0.02
        urls = []
        for number, host in enumerate(HOSTS):
            for i in range(12):
                server.files[host, f"/{i}.jpg"].append((200, {}, encode(photo(seed=i + 100 * number))))
                urls.append(server.url(f"/{i}.jpg", host))
            urls += [server.url(path, host) for path in _BAD] + [f"http://unknown{number}.test/a.jpg"]
        urls.append(server.url("/slow-loris", "h0.test"))
        path = tmp_path_factory.mktemp("list") / "urls.csv"
        path.write_text("url\n" + "".join(f"{url}\n" for url in urls))
        yield path, urls, server


@dataclass(frozen=True)
class Calm:
    """Of an undisturbed crawl. files: what it left; published: what was exported of it, by way of the folder `there`."""

    files: dict[str, bytes]
    published: dict[str, bytes]
    there: Path


@pytest.fixture(scope="module")
def calm(listing, tmp_path_factory):
    out, there = tmp_path_factory.mktemp("calm") / "out", tmp_path_factory.mktemp("there")
    assert crawl(str(listing[0]), str(out)) == 0
    published = publish(out, there)
    assert any(name.startswith("train-") and name.endswith("-000000.tar") for name in published)
    return Calm(files_of(out), published, there)


class PackAsFetched(Stage):
    """Instead of networks: a sample of every picture as it was fetched."""

    name, reads, writes = "pack", ("data", "sha256"), ("sample",)

    def __call__(self, batch) -> None:
        for record in batch:
            size = np.zeros((68, 3), np.float32), np.zeros((1, 21, 3), np.float32), np.array([1], np.uint8)
            crop = Crop(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), 256, 640, 480)
            source = Source(record.item.uri, record.sha256, record.sha256[:16])
            record.scores = Scores(0.9, 1.0, 0.2, 0.8, 0.7, None, 100.0)
            meta = SampleMeta(sample_key(record.data), source, crop, record.scores, ())
            record.sample = Sample(record.data, Labels(*size), meta)


def publish(out: Path, there: Path) -> dict[str, bytes]:
    """{name: bytes} of the export of a crawl, which is put into the same place each time."""
    shutil.rmtree(there)
    shutil.copytree(out, there / "crawl")
    crawled = [str(there / "crawl")]
    run = prepare(
        crawled,
        AnnotateConfig(unit_size=20),
        str(there / "parts"),
        list_inputs=lambda: open_source(crawled),
        stages=lambda config, day: [ReadStage(), PackAsFetched()],
    )
    assert all(result.error is None for result in execute(run, workers=1, local=True))
    release([str(there / "parts")], str(there / "dataset"), ExportConfig(dedupe_distance=-1, shard_samples=20))
    return {path.name: path.read_bytes() for path in sorted((there / "dataset").iterdir())}


def crawl(listing: str, output: str, **options) -> int:
    """The verb on a list, in this process."""
    http = replace(HTTP, timeout=1.5, attempts=2, host_failures=1000)
    given = {"http": http, "local": True, "unit_size": 6, "lane_units": 1} | options
    return verb.run(verb.Config(input=(listing,), output=output, contact="me@example.org", **given))


def files_of(out: Path) -> dict[str, bytes]:
    """{name: bytes} of the plan's parts and of whatever else lies beside them, leftovers included; the day's record left out."""
    found = [path for path in sorted((out / "round-00").iterdir()) if path.is_file() and path.name != "run.json"]
    return {path.name: path.read_bytes() for path in [*found, out / "urls.parquet", out / "crawl.json"]}


def check_whole(out: Path, calm: Calm, urls: list[str]) -> None:
    assert files_of(out) == calm.files
    assert publish(out, calm.there) == calm.published
    assert Counter(row["uri"] for row in pq.read_table(out / "urls.parquet").to_pylist()) == Counter(urls)


def test_the_undisturbed_crawl_meets_every_trouble(listing, calm):
    (path, urls, _) = listing
    out = Counter(row["reason"] for row in pq.read_table(io.BytesIO(calm.files["urls.parquet"])).to_pylist())
    hosts = len(HOSTS)
    assert out[None] == 12 * hosts and out["timeout"] == 1 and out["dns"] == hosts and out["network"] == 3 * hosts
    assert out.total() == len(urls) and path.exists()


@pytest.mark.parametrize("seed", range(RUNS))
def test_killed_drivers(listing, calm, tmp_path, seed):
    path, urls, _ = listing
    chance, out, kills = random.Random(seed), tmp_path / "out", 0
    while True:
        driver = subprocess.Popen(
            [sys.executable, "-c", _DRIVER, str(path), str(out)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        before = len(list(out.glob("round-00/part-*.json")))
        if kills < KILLS:
            wait_for_parts(out, before + chance.randint(1, 3), driver)
            time.sleep(chance.uniform(0.0, 0.3))
            driver.send_signal(signal.SIGKILL)
        _, errors = driver.communicate(timeout=60)
        if driver.returncode == 0:
            break
        assert driver.returncode == -signal.SIGKILL, errors.decode()[-2000:]
        kills += 1
    assert kills == KILLS
    check_whole(out, calm, urls)


def test_killed_workers(listing, calm, tmp_path, ray_cluster):
    """Two workers die at once, in the middle of lanes; the same start finishes without them."""
    path, urls, _ = listing
    killed: list[int] = []

    def strike() -> None:
        wait_until(lambda: len(list((tmp_path / "out").glob("round-00/part-*.json"))) >= 2)
        for pid in worker_pids():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    striker = threading.Thread(target=strike)
    striker.start()
    assert crawl(str(path), str(tmp_path / "out"), local=False, workers=2) == 0
    striker.join()
    assert killed
    check_whole(tmp_path / "out", calm, urls)


def test_a_full_disk_leaves_nothing_partial_and_a_rerun_continues(listing, calm, tmp_path):
    path, urls, _ = listing
    with small_disk(tmp_path / "disk") as (folder, grow):
        try:
            assert crawl(str(path), str(folder / "out")) == 1
        except StorageError as error:  # not even the list of outcomes had room
            assert "run the same command again" in str(error)
        assert (
            0
            < len(list(folder.glob("out/round-00/part-*.json")))
            < sum(name.endswith(".json") for name in calm.files) - 1
        )
        assert not list(folder.rglob(".tmp-*"))
        grow()
        assert crawl(str(path), str(folder / "out")) == 0
        check_whole(folder / "out", calm, urls)


def wait_for_parts(out: Path, count: int, driver: subprocess.Popen[bytes]) -> None:
    """Until so many parts are finished, or the driver has ended."""
    wait_until(lambda: driver.poll() is not None or len(list(out.glob("round-00/part-*.json"))) >= count)


def wait_until(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "the crawl does nothing"
        time.sleep(0.01)


def worker_pids() -> list[int]:
    """The processes of the crawl's live workers."""
    from ray._private.state import actors

    return [a["Pid"] for a in actors().values() if a["State"] == "ALIVE" and "UnitWorker" in a["ActorClassName"]]
