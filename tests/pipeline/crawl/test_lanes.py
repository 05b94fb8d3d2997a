"""On Ray: lanes over several workers; no host over its limit, every URL asked once and in one row."""

from __future__ import annotations

from dataclasses import replace

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.parts import read_parts
from handface.pipeline.crawl.rounds import Crawl, CrawlConfig
from handface.pipeline.engine.executor import execute
from tests.pipeline.fetch.server import Server
from tests.pipeline.fetch.test_crawl import HOSTS, HTTP


def test_hosts_have_one_owner_among_many_workers(tmp_path, ray_cluster):
    with Server(tuple(sorted(set(HOSTS.values())))) as server:
        server.delay = 0.02
        items = [SourceItem(server.url(f"/p/{i}", host)) for i in range(20) for host in HOSTS]
        config = CrawlConfig(unit_size=10, lane_units=1, http=replace(HTTP, host_concurrency=1, host_interval=0.01))
        crawl = Crawl(str(tmp_path / "out"), config, ("x",))
        run = crawl.open(0, lambda: items)
        assert run is not None and len({ref.lane for ref in run.pending}) > 1
        results = list(execute(run, workers=2))
        assert all(result.manifest is not None for result in results) and len(results) == len(run.pending)
        assert set(server.most.values()) == {1}
        rows = [row for part in read_parts(str(tmp_path / "out/round-00")) for row in part.rows()["uri"].to_pylist()]
        assert sorted(rows) == sorted(item.uri for item in items)
        asked = [path for _, _, path in server.asked if path.startswith("/p/")]
        assert len(asked) == len(items)
