"""`handface doctor`: what each check says of a good and of a bad machine."""

from __future__ import annotations

import json
import shutil
import socket
import tomllib
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from handface.jobs import doctor
from handface.jobs.cli import main
from handface.pipeline.engine.libraries import TESTED, untested

Usage = namedtuple("Usage", "total used free")


def test_this_machine_gets_a_line_per_check_with_fixes(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "--json"])
    checks = json.loads(capsys.readouterr().out)
    names = {check["name"] for check in checks}
    assert {
        "python",
        "torch",
        "ray",
        "detector",
        "opencv",
        "gpu",
        "disk",
        "open files",
    } <= names
    assert code == int(any(check["level"] == "fail" for check in checks))
    assert all(check["fix"] for check in checks if check["level"] != "ok")
    assert not [check for check in checks if "the check itself broke" in check["detail"]]


def test_text_and_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = doctor.Check("a", "ok", "fine"), doctor.Check("b", "fail", "broken", "mend it")
    monkeypatch.setattr(doctor, "_checks", lambda output: iter([good]))
    assert main(["doctor"]) == 0
    monkeypatch.setattr(doctor, "_checks", lambda output: iter([good, bad]))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fail b  broken" in out
    assert "-> mend it" in out
    assert "1 ok, 0 warn, 1 fail" in out


def test_a_check_that_breaks_is_a_failed_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken() -> doctor.Check:
        raise RuntimeError("no")

    monkeypatch.setattr(doctor, "check_gpu", broken)
    (line,) = [check for check in doctor._checks(tmp_path) if "itself broke" in check.detail]
    assert (line.level, "RuntimeError: no" in line.detail) == ("fail", True)


@pytest.mark.parametrize(
    ("found", "level"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 12), "ok"), ((3, 14), "ok"), ((3, 15), "warn")]
)
def test_python_versions(found: tuple[int, int], level: str) -> None:
    assert doctor.check_python(found).level == level


def test_the_tested_pythons_are_those_that_the_package_names() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    oldest, newest = doctor.TESTED_PYTHON
    assert project["requires-python"] == ">={}.{}".format(*oldest)
    named = [name.rpartition(" ")[2] for name in project["classifiers"] if "Python :: 3." in name]
    assert named == [f"3.{minor}" for minor in range(oldest[1], newest[1] + 1)]


def test_a_missing_package_fails_with_its_command() -> None:
    check = doctor.check_import("no_such_package", "pip install it")
    assert (check.level, check.fix) == ("fail", "pip install it")


def test_opencv_without_libgl_names_the_system_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    (check,) = doctor.check_opencv()
    assert (check.level, check.fix) == ("fail", "apt-get install libgl1 libglib2.0-0")


def test_opencv_wheels_of_two_versions_are_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"opencv-contrib-python": "5.0", "opencv-python-headless": "4.9"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor, "version", version)
    (check,) = doctor.check_opencv()
    assert check.level == "warn"


def test_a_detector_without_its_runtime_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from handface.pipeline.annotators.networks import runtime

    assert doctor.check_detector().level == "ok"
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    check = doctor.check_detector()
    assert (check.level, check.fix) == ("fail", "pip install 'handface[openvino]'")


@pytest.mark.parametrize(("gib", "level"), [(0.5, "fail"), (5, "warn"), (50, "ok")])
def test_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gib: float, level: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, int(gib * doctor.GIB)))
    check = doctor.check_disk(tmp_path / "not" / "yet" / "there")
    assert (check.level, str(tmp_path) in check.detail) == (level, True)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_open_files((1024, 524288)) == doctor.Check(
        "open files", "warn", "1024 (at most 524288)", "ulimit -n 65536"
    )
    assert doctor.check_open_files((1024, 1024)).fix == "raise nofile in limits.conf"
    assert doctor.check_open_files((65536, 65536)).level == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 64 << 20))
    assert "--shm-size" in doctor.check_shared_memory("/").fix
    monkeypatch.setattr(doctor, "memory_limit", lambda: 2 * doctor.GIB)
    assert doctor.check_memory().level == "warn"


def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **environment: str) -> dict[str, doctor.Check]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return {check.name: check for check in doctor.check_ray_cluster()}


def test_ray_address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cluster(monkeypatch, tmp_path)["ray cluster"].level == "ok"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", f"http://127.0.0.1:{port}/"):
            assert cluster(monkeypatch, tmp_path, RAY_ADDRESS=address)["ray cluster"].level == "ok"
    gone = cluster(monkeypatch, tmp_path, RAY_ADDRESS=f"127.0.0.1:{port}")["ray cluster"]
    assert (gone.level, "does not answer" in gone.detail) == ("fail", True)
    assert "is not host:port" in cluster(monkeypatch, tmp_path, RAY_ADDRESS="nonsense")["ray cluster"].detail


def test_ray_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cluster(monkeypatch, tmp_path, RAY_AUTH_MODE="token")["ray token"].level == "fail"
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("x")
    assert cluster(monkeypatch, tmp_path)["ray token"].level == "warn"
    assert "ray token" not in cluster(monkeypatch, tmp_path, RAY_AUTH_MODE="disabled")


def test_an_untested_version_is_named_with_the_tested_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from handface.pipeline.engine import libraries

    assert [check.level for check in doctor.check_tested_versions()] == ["ok"]
    monkeypatch.setitem(libraries.TESTED, "opencv", ("4.10.0.84", "4.10.0.84"))
    (check,) = doctor.check_tested_versions()
    assert (check.name, check.level) == ("tested opencv", "warn")
    assert "labels were tested with 4.10.0.84" in check.detail and "opencv-contrib-python==4.10.0.84" in check.fix


@pytest.mark.parametrize(
    ("number", "tested"), [("1.26.4", False), ("2.0.0", True), ("2.10.1", False), ("2.4.6", True), ("3.0.0rc1", False)]
)
def test_versions_between_the_oldest_and_the_newest_tested_are_fine(number: str, tested: bool) -> None:
    assert untested({"numpy": number}) == ({} if tested else {"numpy": TESTED["numpy"]})
