"""Counters reach Ray's Prometheus endpoint, and the dashboard asks for names that exist."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

from handface.pipeline.engine.metrics import RunMetrics
from handface.pipeline.engine.worker import UnitResult
from tests.pipeline.toy_stages import toy_run

NOTHING = {"inputs": 0, "kept": 0, "rejected": {}, "ended": {}}
WAITS = {"h0.test": 2.5} | {f"many{number}.test": 2.0 for number in range(150)}
DASHBOARD = Path(__file__).parents[3] / "deploy" / "grafana.json"


def counted(text: str, name: str) -> list[str]:
    """Lines of one metric of this test's run; the cluster holds those of other tests too."""
    return [line for line in text.splitlines() if line.startswith(f"{name}{{") and 'run="counted"' in line]


def test_a_run_is_counted_where_prometheus_looks(tmp_path: Path, ray_cluster: None) -> None:
    import ray

    results = toy_run(tmp_path / "counted", workers=1, count=25)
    metrics = RunMetrics("counted", 1)  # what this run has none of
    metrics.add(UnitResult("a", 3, None, error="failed"))
    metrics.add(UnitResult("b", 0, results[0].manifest and replace(results[0].manifest, **NOTHING), host_waits=WAITS))
    kept = sum(result.manifest.kept for result in results if result.manifest)
    port = ray.nodes()[0]["MetricsExportPort"]
    text, end = "", time.monotonic() + 150
    # each counter is reported on its own
    names = [f"ray_handface_{name}_total" for name in ("host_wait_seconds", "inputs", "rejected", "failed_units")]
    while not all(counted(text, name) for name in names) and time.monotonic() < end:
        time.sleep(0.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()

    def value(name: str, **tags: str) -> float:
        lines = counted(text, name)
        found = [line for line in lines if all(f'{tag}="{wanted}"' in line for tag, wanted in tags.items())]
        assert found, f"{name} {tags}"
        return sum(float(line.rpartition(" ")[2]) for line in found)

    assert value("ray_handface_inputs_total", result="kept") == kept > 0
    assert value("ray_handface_inputs_total", result="rejected") == 25 - kept == value("ray_handface_rejected_total")
    assert value("ray_handface_pending_units") <= 0
    assert value("ray_handface_failed_units_total") == 1
    assert value("ray_handface_host_wait_seconds_total", host="h0.test") == 2.5
    assert value("ray_handface_host_wait_seconds_total", host="others") == 2 * (150 - 99)  # hosts have few lines
    asked = set(re.findall(r"ray_handface_\w+", DASHBOARD.read_text()))
    assert "ray_handface_host_wait_seconds_total" in asked
    assert asked <= set(re.findall(r"ray_handface_\w+", text))


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) and all(panel["targets"] for panel in dashboard["panels"])
