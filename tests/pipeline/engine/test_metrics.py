"""Counters reach Ray's Prometheus endpoint, and the dashboard asks for names that exist."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from pathlib import Path

from tests.pipeline.toy_stages import toy_run

DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana.json"


def counted(text: str, name: str) -> list[str]:
    """Lines of one metric of this test's run; a Ray that other tests use holds theirs too."""
    return [line for line in text.splitlines() if line.startswith(f"{name}{{") and 'run="counted"' in line]


def test_a_run_is_counted_where_prometheus_looks(tmp_path: Path) -> None:
    import ray

    mine = not ray.is_initialized()  # other tests may have left theirs running
    if mine:
        ray.init(num_cpus=2, include_dashboard=False, object_store_memory=200 << 20, logging_level="error")
    try:
        results = toy_run(tmp_path / "counted", workers=1, count=25)
        kept = sum(result.manifest.kept for result in results if result.manifest)
        port = ray.nodes()[0]["MetricsExportPort"]
        text, end = "", time.monotonic() + 150
        while not counted(text, "ray_handface_stage_seconds_total") and time.monotonic() < end:
            time.sleep(0.5)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
    finally:
        if mine:
            ray.shutdown()

    def value(name: str, **tags: str) -> float:
        lines = counted(text, name)
        found = [line for line in lines if all(f'{tag}="{wanted}"' in line for tag, wanted in tags.items())]
        assert found, f"{name} {tags}"
        return sum(float(line.rpartition(" ")[2]) for line in found)

    assert value("ray_handface_inputs_total", result="kept") == kept > 0
    assert value("ray_handface_inputs_total", result="rejected") == 25 - kept == value("ray_handface_rejected_total")
    assert value("ray_handface_pending_units") == 0
    asked = set(re.findall(r"ray_handface_\w+", DASHBOARD.read_text()))
    assert asked - {"ray_handface_failed_units_total"} <= set(re.findall(r"ray_handface_\w+", text))


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) and all(panel["targets"] for panel in dashboard["panels"])
