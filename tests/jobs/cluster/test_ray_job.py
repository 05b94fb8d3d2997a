"""Jobs on a head of our own that asks for a token: `ray job submit`, `handface jobs`, and the ten lines of docs/data_engineer.md."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from handface.jobs.cli import main
from handface.jobs.jobs import JobOutput
from tests.object_store import s3_server
from tests.pipeline.toy_stages import parts_of

ROOT = Path(__file__).parents[3]
RAY = Path(sys.executable).parent / "ray"
SCENES = ["synthesize", "--local", "--count", "2", "--size", "64", "--output"]
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}",  # as on a cluster: `python` has the project's packages
}


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    """Address of an S3 server with an empty bucket named bucket."""
    import boto3

    with s3_server() as address:
        s3 = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        s3.create_bucket(Bucket="bucket")
        yield address


@pytest.fixture(scope="module")
def dashboard(storage: str) -> Iterator[str]:
    """Address of the dashboard of a head started here; its process group alone is ended, and its workers leave with it."""
    port, agent = free_port(), free_port()
    temp = tempfile.mkdtemp(prefix="hf", dir="/tmp")  # short: socket paths have a limit of 107 characters
    # one CPU: a worker more would load every network once more
    command = [str(RAY), "start", "--head", "--block", "--port", "0", "--num-cpus", "1", "--temp-dir", temp]
    # The agent that starts jobs has a fixed port by default, which the cluster of the other tests may hold.
    command += ["--dashboard-agent-listen-port", str(agent)]
    command += ["--dashboard-port", str(port), "--object-store-memory", str(200 << 20), "--disable-usage-stats"]
    with (Path(temp) / "head.log").open("wb") as log:
        head = subprocess.Popen(
            command, env=ENVIRONMENT | {"AWS_ENDPOINT_URL": storage}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            wait_until_up(address, head, Path(temp) / "head.log")
            yield address
        finally:
            # the whole session at once: asked to end, Ray takes half a minute over its processes
            os.killpg(head.pid, signal.SIGKILL)
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
            token = {"Authorization": f"Bearer {ENVIRONMENT['RAY_AUTH_TOKEN']}"}
            with urllib.request.urlopen(urllib.request.Request(f"{address}/api/version", headers=token), timeout=5):
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


ONE_AFTER_THE_OTHER = """
import contextlib, io, json, sys
from handface.jobs.cli import main
for arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as error:
        code = main(arguments)
    print(json.dumps([arguments, code, out.getvalue(), error.getvalue()]))
"""


def jobs(address: str, *commands: list[str], **environment: str) -> list[subprocess.CompletedProcess[str]]:
    """Run `handface jobs` in a process of its own, for Ray reads whether to send a token once per process. "" takes a variable away.

    Several commands share the process: starting one costs more than what they do.
    """
    values = {name: value for name, value in (ENVIRONMENT | environment).items() if value}
    whole = json.dumps([["jobs", verb, "--address", address, *rest] for verb, *rest in commands])
    command = [sys.executable, "-c", ONE_AFTER_THE_OTHER, whole]
    done = subprocess.run(command, capture_output=True, text=True, env=values, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return [subprocess.CompletedProcess(*json.loads(line)) for line in done.stdout.splitlines()]


def workers_on(output: Path) -> list[int]:
    """Processes whose command line names the folder."""
    return [one.pid for one in psutil.process_iter(["cmdline"]) if str(output) in (one.info["cmdline"] or [])]


def wait_for(ready: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)


@pytest.mark.slow
def test_jobs_verb_submits_waits_tells_and_stops(dashboard: str, tmp_path: Path) -> None:
    many = ["synthesize", "--local", "--count", "100000", "--output", str(tmp_path / "many")]
    long = ["submit", "--name", "long", "--", *many]
    scenes, bad, listed, status, logs, begun = jobs(
        dashboard,
        ["submit", "--name", "scenes", "--wait", "--", *SCENES, str(tmp_path / "scenes")],
        ["submit", "--name", "bad", "--wait", "--", "annotate", "--input", "/none", "--output", "x"],
        ["list", "--watch"],
        ["status", "bad"],
        ["logs", "bad"],
        long,
    )
    assert scenes.returncode == 0 and "2 of 2 inputs kept" in scenes.stdout, scenes.stderr
    assert len(list((tmp_path / "scenes").glob("part-*.json"))) == 1
    assert scenes.stderr == "" and "Running entrypoint" not in scenes.stdout and "job_manager.py" not in scenes.stdout
    wrong = "handface annotate: error: --input /none: no such file or folder\n"
    assert (bad.returncode, bad.stdout, bad.stderr) == (2, f"bad\n{wrong}", "bad: FAILED (exit code 2)\n")
    assert listed.returncode == 0 and "scenes  SUCCEEDED" in listed.stdout and "bad  FAILED" in listed.stdout
    assert status.returncode == 1
    assert logs.stdout == wrong
    assert begun.returncode == 0
    wait_for(lambda: (tmp_path / "many").exists(), "the job to begin")
    stopped, again = jobs(dashboard, ["stop", "long"], long)
    assert "long: stopping" in stopped.stdout
    wait_for(lambda: not workers_on(tmp_path / "many"), "the verb to end with its job")
    assert again.returncode == 2 and "the cluster has a job of that name" in again.stderr


RAYS_OWN = "2026-11-29 14:42:15,608\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
BEGINS = "Running entrypoint for job bad: exec python -m handface.jobs.annotate\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("log", "own"),
    [
        (f"{RAYS_OWN}{BEGINS}begin\n{BEGINS}end", f"begin\n{BEGINS}end"),
        (f"{RAYS_OWN}no environment", "no environment"),  # the verb never began
        (RAYS_OWN, ""),
        ("", ""),
    ],
)
def test_of_a_log_the_jobs_own_output_is_shown(log: str, own: str, size: int) -> None:
    output = JobOutput()
    pieces = [output.add(log[start : start + size]) for start in range(0, len(log), size)]
    assert "".join([*pieces, output.end()]) == own


NOBODY = "no job 'nobody' on this cluster"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({"RAY_AUTH_MODE": "disabled"}, {"status": "export RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN unless"}),
        ({"RAY_AUTH_TOKEN": "f" * 64}, {"list": "the cluster refuses this token (403)"}),
        (
            {"RAY_AUTH_TOKEN": "", "HOME": "/nonexistent"},
            {"list": "there is none; put it into RAY_AUTH_TOKEN"},
        ),
        ({}, {"status nobody": f"{NOBODY}; the latest are: ", "logs nobody": NOBODY, "stop nobody": NOBODY}),
    ],
)
def test_what_a_cluster_refuses_is_a_sentence(
    dashboard: str, environment: dict[str, str], refused: dict[str, str]
) -> None:
    done = jobs(dashboard, *map(str.split, refused), **environment)
    for one, said in zip(done, refused.values(), strict=True):
        assert one.returncode == 2 and said in one.stderr and len(one.stderr.strip().splitlines()) == 1, one


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["list"], "no Ray dashboard answers there"),
        (["submit", "--", "anotate"], "no verb 'anotate' to submit"),
        (["submit", "--", "annotate", "--inptu", "x", "--output", "y"], "--inptu"),
        (["submit", "--working-dir", "docs", "--", *SCENES, "x"], "no folder handface in it"),
    ],
)
def test_wrong_words_are_found_before_anything_is_sent(
    command: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: what never reaches a cluster needs no token."""
    monkeypatch.chdir(ROOT)
    verb, *rest = command
    address = f"http://127.0.0.1:{free_port()}"
    try:
        code = main(["jobs", verb, "--address", address, *rest])
    except SystemExit as ended:  # by the parser of flags
        code = ended.code
    told = capsys.readouterr().err
    assert code == 2 and said in told
    assert told.count(address) <= 1, "Ray's own words say the address once more"


def test_an_address_that_is_no_dashboard_is_a_sentence(storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    for address, said in ((storage, "no Ray dashboard answers there"), ("localhost:8265", "http://HEAD:8265")):
        assert main(["jobs", "list", "--address", address]) == 2
        assert said in capsys.readouterr().err


# They rent and return machines; every other line runs as it is printed.
RENTED = ("ray up ray_cluster.yaml", "ray dashboard ray_cluster.yaml", "ray down ray_cluster.yaml")


def ten_lines(address: str, web: str) -> str:
    """The block of docs/data_engineer.md, with this head's address, and told that its web is on this machine."""
    block = re.search(r"```\n(.*?)```", (ROOT / "docs" / "data_engineer.md").read_text(), re.S)
    assert block is not None
    lines = block[1].splitlines()
    assert len(lines) == 10 and all(any(rented in line for line in lines) for rented in RENTED)
    kept = [line.replace(f" && {RENTED[2]}", "") for line in lines if not line.startswith(RENTED[:2])]
    text = "\n".join(["set -e", *kept])
    for printed, here in (("http://127.0.0.1:8265", address), ("you@example.org", f"you@example.org {web}")):
        assert printed in text
        text = text.replace(printed, here)
    return text


@pytest.mark.slow
@pytest.mark.timeout(600)  # five jobs, one after the other: half a minute where nothing else runs
def test_the_ten_lines_of_the_documentation_run_as_printed(dashboard: str, storage: str, tmp_path: Path) -> None:
    import boto3
    import pyarrow as pa
    import pyarrow.parquet as pq

    from handface.jobs.demonstration.pictures import write_scene_pictures
    from handface.jobs.rehearsal.web import serve

    assert main(["synthesize", "--local", "--count", "4", "--size", "384", "--output", str(tmp_path / "scenes")]) == 0
    (tmp_path / "pictures").mkdir()
    pictures = write_scene_pictures(tmp_path / "scenes", tmp_path / "pictures")
    bucket = boto3.client(
        "s3", endpoint_url=storage, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
    )
    with serve(pictures, sites=2) as web:
        urls = [f"http://{host}:{web.port}/{path.name}" for host, paths in web.pictures.items() for path in paths]
        pq.write_table(pa.table({"url": urls, "licence": ["CC0-1.0"] * len(urls)}), tmp_path / "urls.parquet")
        bucket.upload_file(str(tmp_path / "urls.parquet"), "bucket", "urls.parquet")
        flags = ["--http.open-ranges", "127.0.0.0/8", *web.resolve(), "--http.host-interval", "0.01"]
        environment = ENVIRONMENT | {"AWS_ENDPOINT_URL": storage}
        del environment["RAY_AUTH_MODE"]  # a line exports it
        done = subprocess.run(
            ["bash", "-c", ten_lines(dashboard, " ".join(flags))],
            capture_output=True,
            text=True,
            env=environment,
            cwd=ROOT,
            timeout=500,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(urls)} of {len(urls)} URLs kept" in done.stdout
    held = {entry["Key"] for entry in bucket.list_objects_v2(Bucket="bucket")["Contents"]}
    assert {"copies.parquet", "refused.parquet", "dataset/README.md"} <= held, held
    assert any(re.fullmatch(r"dataset/.*\.tar", key) for key in held), held
    assert "revision 1" in done.stdout
