"""A run's counters for Prometheus, through Ray's metrics: what `deploy/grafana.json` draws. Tags have few values: never ids, and few hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handface.pipeline.engine.worker import UnitResult


_HOSTS = 100  # that get a line of their own


class RunMetrics:
    """Counts finished units of one run on Ray; made in the driver, inside the cluster's session.

    Prometheus shows every name with the prefix `ray_`, and counters with `_total`.
    """

    def __init__(self, run: str, pending: int) -> None:
        from ray.util.metrics import Counter, Gauge

        tags = ("run",)
        self._inputs = Counter("handface_inputs", "Inputs that ended in a part, kept or not.", (*tags, "result"))
        self._rejected = Counter("handface_rejected", "Inputs turned away.", (*tags, "stage", "reason"))
        self._seconds = Counter("handface_stage_seconds", "Seconds of work, over all workers.", (*tags, "stage"))
        self._failed = Counter("handface_failed_units", "Units that failed; the same command tries them again.", tags)
        waits = "Seconds that requests waited for a host's turn: its pauses, its rests after 429 and 503."
        self._waits = Counter("handface_host_wait_seconds", waits, (*tags, "host"))
        self._hosts: set[str] = set()
        self._pending = Gauge("handface_pending_units", "Units still to be done.", tags)
        self._tags = {"run": run}
        self._left = pending
        self._pending.set(pending, self._tags)

    def add(self, result: UnitResult) -> None:
        """Count a unit that ended."""
        self._left -= 1
        self._pending.set(self._left, self._tags)
        for stage, seconds in result.seconds.items():
            if seconds > 0:
                self._seconds.inc(seconds, self._tags | {"stage": stage})
        manifest = result.manifest
        if manifest is None:
            self._failed.inc(1, self._tags)
            return
        for host, seconds in result.host_waits.items():
            if len(self._hosts) < _HOSTS:
                self._hosts.add(host)
            self._waits.inc(seconds, self._tags | {"host": host if host in self._hosts else "others"})
        ended = sum(sum(reasons.values()) for reasons in manifest.ended.values())
        counts = {"kept": manifest.kept, "ended": ended, "rejected": manifest.inputs - manifest.kept - ended}
        for name, count in counts.items():
            if count:
                self._inputs.inc(count, self._tags | {"result": name})
        for stage, reasons in manifest.rejected.items():
            for reason, count in reasons.items():
                self._rejected.inc(count, self._tags | {"stage": stage, "reason": reason})
