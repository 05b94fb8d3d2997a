"""The Ray cluster that a verb starts for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

import psutil
import pytest


def test_a_cluster_of_our_own_listens_on_loopback_alone_and_is_quiet() -> None:
    """Whoever reaches Ray's ports may run code on the machine. Ray's core takes actors like those of Ray Data for an error."""
    code = """
import os, sys
from handface.pipeline.engine.cluster import cluster
with cluster(1) as resources:
    import ray
    assert resources["CPU"] == 1 and ray.get(ray.remote(lambda: 7).remote()) == 7
    actor = ray.remote(type("Restarts", (), {"__init__": lambda self, value: None})).options(max_restarts=-1)
    ray.get(actor.remote(ray.put(1)).__ray_ready__.remote())
    print("from Python", file=sys.stderr)
    os.write(2, b"from the core\\n")
    print(" ".join(node["NodeManagerAddress"] for node in ray.nodes()))
    print("up", flush=True)
    sys.stdin.read()
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment | {"RAY_AUTH_MODE": "disabled"}, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline().split() == ["127.0.0.1"] and process.stdout.readline() == "up\n"
        started = psutil.Process(process.pid)
        family = [started, *started.children(recursive=True)]
        sockets = [socket for one in family for socket in one.net_connections("tcp")]
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and "SIGTERM received" not in said, said
    assert "Actor with" not in said and {"from Python", "from the core"} <= set(said.splitlines()), said
    addresses = [socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert len(addresses) > 3 and set(addresses) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_missing_token_is_a_sentence() -> None:
    code = "from handface.pipeline.engine.cluster import cluster\nwith cluster(1): pass"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_ADDRESS": "127.0.0.1:1", "HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("PermissionError: RAY_ADDRESS=127.0.0.1:1: the cluster did not take this shell's token"), (
        last
    )


@pytest.mark.parametrize(
    ("cause", "kind"),
    [("Unauthenticated: InvalidAuthToken. Authentication failed", PermissionError), ("refused", ConnectionError)],
)
def test_a_refused_token_is_told_from_a_head_that_is_not_there(
    cause: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ray 2.60 raises both: a ConnectionError that says the same, with its cause."""
    import ray

    from handface.pipeline.engine.cluster import cluster

    def init(**options: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 127.0.0.1:1") from RuntimeError(cause)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(OSError) as raised, cluster(1):
        pass
    assert type(raised.value) is kind


def test_a_slow_start_is_tried_again_and_then_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    from handface.pipeline.engine.cluster import cluster

    tries: list[str] = []

    def too_slow(**options: Any) -> None:
        tries.append(options["address"])
        raise Exception("The current node timed out during startup. This could happen because ...")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", too_slow)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(ConnectionError, match=r"Ray did not start: .*--local"), cluster(1):
        pass
    assert tries == ["local"] * 3
