"""`ray job submit --working-dir . -- python -m jobs.annotate ...` for real, on a head of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from handface.jobs.cli import main
from tests.pipeline.toy_stages import parts_of

ROOT = Path(__file__).parents[3]
RAY = Path(sys.executable).parent / "ray"
SCENES = ["synthesize", "--local", "--count", "2", "--size", "64", "--output"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",  # as on a cluster: `python` has the project's packages
}


@pytest.fixture(scope="module")
def dashboard() -> Iterator[str]:
    """Address of the dashboard of a head started here; only that process is ended, its children leave with it."""
    port, agent = free_port(), free_port()
    temp = tempfile.mkdtemp(prefix="hf", dir="/tmp")  # short: socket paths have a limit of 107 characters
    command = [str(RAY), "start", "--head", "--block", "--port", "0", "--num-cpus", "2", "--temp-dir", temp]
    # The agent that starts jobs has a fixed port by default, which the cluster of the other tests may hold.
    command += ["--dashboard-agent-listen-port", str(agent)]
    command += ["--dashboard-port", str(port), "--object-store-memory", str(200 << 20), "--disable-usage-stats"]
    with (Path(temp) / "head.log").open("wb") as log:
        head = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log, start_new_session=True)
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_up(address, head, Path(temp) / "head.log")
            yield address
        finally:
            head.send_signal(signal.SIGTERM)
            head.wait(60)
    shutil.rmtree(temp, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def wait_until_up(address: str, head: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert head.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/api/version", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the Ray head did not come up: " + log.read_text())


def submit(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(RAY), "job", "submit", "--address", address, "--working-dir", str(ROOT), "--"]
    command += [sys.executable, "-m", "jobs.annotate", *arguments]
    for _ in range(30):
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, timeout=240)
        if "No available agent" not in done.stderr:  # the dashboard is up before what starts jobs is
            break
        time.sleep(1)
    return done


@pytest.mark.slow
def test_submitted_job_writes_the_same_parts_as_a_local_run(dashboard: str, tmp_path: Path) -> None:
    from skimage import data

    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(data.astronaut()).save(photos / "portrait.jpg")
    Image.fromarray(data.coffee()).save(photos / "coffee.jpg")
    (photos / "empty.jpg").touch()
    flags = ["--input", str(photos), "--unit-size", "2", "--detect.segmenter", "off"]
    assert main(["annotate", *flags, "--output", str(tmp_path / "local"), "--local"]) == 0

    done = submit(dashboard, *flags, "--output", str(tmp_path / "job"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of 3 inputs kept, in 2 parts" in done.stdout
    assert parts_of(tmp_path / "job") == parts_of(tmp_path / "local")


@pytest.mark.slow
def test_jobs_verb_submits_waits_tells_and_stops(
    dashboard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    here = ["--address", dashboard, "--working-dir", str(ROOT)]
    assert main(["jobs", "submit", *here, "--name", "scenes", "--wait", "--", *SCENES, str(tmp_path / "scenes")]) == 0
    assert "2 of 2 inputs kept" in capsys.readouterr().out
    assert len(list((tmp_path / "scenes").glob("part-*.json"))) == 1
    failing = [
        "jobs",
        "submit",
        *here,
        "--name",
        "bad",
        "--wait",
        "--",
        "annotate",
        "--input",
        "/none",
        "--output",
        "x",
    ]
    assert main(failing) == 1
    assert "FAILED" in capsys.readouterr().err
    assert main(["jobs", "status", "--address", dashboard]) == 0
    listed = capsys.readouterr().out
    assert "scenes  SUCCEEDED" in listed and "bad  FAILED" in listed
    assert main(["jobs", "status", "bad", "--address", dashboard]) == 1
    assert main(["jobs", "logs", "bad", "--address", dashboard]) == 0
    assert "/none: no such file or folder" in capsys.readouterr().out
    many = ["synthesize", "--local", "--count", "100000", "--output", str(tmp_path / "many")]
    assert main(["jobs", "submit", *here, "--name", "long", "--", *many]) == 0
    assert main(["jobs", "stop", "long", "--address", dashboard]) == 0
    assert "long: stopping" in capsys.readouterr().out


def test_jobs_verb_explains_what_it_cannot_do(capsys: pytest.CaptureFixture[str], dashboard: str) -> None:
    assert main(["jobs", "status", "--address", f"http://127.0.0.1:{free_port()}"]) == 2
    assert "no Ray dashboard answers there" in capsys.readouterr().err
    assert main(["jobs", "submit", "--address", dashboard, "--", "anotate"]) == 2
    assert "no verb 'anotate' to submit" in capsys.readouterr().err
