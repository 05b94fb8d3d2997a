"""Kills and a full disk: whatever happens, a rerun ends with the bytes of an undisturbed run, nothing lost, nothing twice."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from handface.pipeline.contract.parts import read_parts
from tests.pipeline.toy_stages import Once, items, parts_of, toy_run

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("expected")
    toy_run(folder, local=True)
    return parts_of(folder)


def with_trouble(folder: Path, **trouble: object) -> Once:
    folder.mkdir(exist_ok=True)
    return Once(folder, **trouble)  # type: ignore[arg-type]


def check_whole(output: Path, expected: dict[str, bytes]) -> None:
    assert parts_of(output) == expected
    uris = [row["uri"] for part in read_parts(str(output)) for row in part.rows().to_pylist()]
    assert sorted(uris) == sorted(item.uri for item in items(95))


def test_killed_worker_costs_nothing(tmp_path: Path, ray_cluster: None) -> None:
    results = toy_run(tmp_path / "out", with_trouble(tmp_path / "marks", at=42, act="kill", times=1))
    assert [result.error for result in results] == [None] * 10
    assert (tmp_path / "marks" / "trouble-0").exists()  # it did happen
    toy_run(tmp_path / "calm", with_trouble(tmp_path / "marks", at=42, act="kill", times=0), local=True)
    check_whole(tmp_path / "out", parts_of(tmp_path / "calm"))


@pytest.mark.slow
def test_input_that_kills_every_worker_ends_alone_and_its_neighbours_are_kept(
    tmp_path: Path, ray_cluster: None
) -> None:
    results = toy_run(tmp_path / "out", with_trouble(tmp_path / "marks", at=42, act="kill", times=1000))
    assert [result.error for result in results] == [None] * 10
    assert len(list((tmp_path / "marks").iterdir())) == 3  # unit, batch, input
    calm = rows_of(tmp_path / "calm", with_trouble(tmp_path / "marks", at=42, act="kill", times=0))
    found = {row["uri"]: row for part in read_parts(str(tmp_path / "out")) for row in part.rows().to_pylist()}
    guilty = found.pop("toy://input/42")
    assert calm.pop("toy://input/42")["kept"]
    assert (guilty["reason"], guilty["kept"]) == ("failed", False) and "its worker process died 3 times" in guilty[
        "detail"
    ]
    places = ("offset", "size")  # in the tar
    assert [[v for k, v in row.items() if k not in places] for row in found.values()] == [
        [v for k, v in row.items() if k not in places] for row in calm.values()
    ]
    assert not list((tmp_path / "out" / "stats" / "working").iterdir())
    assert toy_run(tmp_path / "out", with_trouble(tmp_path / "marks", at=42, act="kill", times=0), local=True) == []


def rows_of(output: Path, *extra: Once) -> dict[str, dict]:
    toy_run(output, *extra, local=True)
    return {row["uri"]: row for part in read_parts(str(output)) for row in part.rows().to_pylist()}


@pytest.mark.slow
def test_input_that_hangs_ends_alone(tmp_path: Path, ray_cluster: None) -> None:
    hanging = with_trouble(tmp_path / "marks", at=42, act="hang", times=1000)
    results = toy_run(tmp_path / "out", hanging)
    assert [result.error for result in results] == [None] * 10
    rows = [row for part in read_parts(str(tmp_path / "out")) for row in part.rows().to_pylist()]
    assert [row["uri"] for row in rows if row["reason"] == "failed"] == ["toy://input/42"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["local", "ray"])
def test_killed_driver(tmp_path: Path, expected: dict[str, bytes], mode: str) -> None:
    """SIGKILL after the second part. A rerun finishes, also while workers of the dead driver may still be ending."""
    output = tmp_path / "out"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.pipeline.toy_stages", str(output), mode, "0.1"]
    driver = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list(output.glob("part-*.json"))) >= 2, driver)
    finally:
        # Ray's agents, which write nothing of ours, stay for minutes
        orphans = [one for one in psutil.Process(driver.pid).children(recursive=True) if "Agent" not in one.name()]
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    done = len(list(read_parts(str(output))))
    assert 2 <= done < 10
    again = toy_run(output, local=True)
    assert len(again) <= 10 - done
    assert all(result.error is None for result in again)
    # what a worker of the dead driver left while the rerun was on is cleared by the next command
    assert not psutil.wait_procs(orphans, timeout=60)[1]
    assert toy_run(output, local=True) == []
    check_whole(output, expected)


def test_full_disk_leaves_nothing_partial_and_a_rerun_continues(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as (folder, grow):
        before = toy_run(folder / "out", local=True)
        assert before[-1].fatal
        assert "part-" in str(before[-1].error) and "run the same command again; finished parts are kept" in str(
            before[-1].error
        )
        assert 0 < len(list(read_parts(str(folder / "out")))) < 10
        assert not list((folder / "out").glob(".tmp-*"))
        grow()
        assert all(result.error is None for result in toy_run(folder / "out", local=True))
        toy_run(tmp_path / "calm", local=True)
        check_whole(folder / "out", parts_of(tmp_path / "calm"))


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[Path, object]]:
    """A folder that fills up: a tmpfs where one may be mounted, else a limit on the size of files. And how to make room."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=192k", "none", str(folder)], capture_output=True)
    if mounted.returncode == 0:
        try:
            yield folder, lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
        finally:
            subprocess.run(["umount", str(folder)], check=True)
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (45_000, hard))
        try:
            yield folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def wait_for(condition: object, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert process.poll() is None, "the driver ended before it could be killed"
        assert time.monotonic() < end, "the driver does nothing"
        time.sleep(0.02)
