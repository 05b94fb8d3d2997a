"""A path that cannot be written to, or a port that is taken: one sentence with what to do, before anything is done."""

from __future__ import annotations

import errno
import importlib
import os
import socket
from pathlib import Path

import pytest

from handface.jobs import cli
from handface.jobs.shared.errors import describe_error

FOLDERS = [
    ["annotate", "--local", "--input", "a", "--output", "OUT"],
    ["crawl", "--local", "--contact", "me@example.org", "--input", "a", "--output", "OUT"],
    ["synthesize", "--local", "--count", "1", "--output", "OUT"],
    ["decaf-to-shards", "--decaf", "a", "--output", "OUT"],
    ["predict", "a.jpg", "--output", "OUT"],
    ["export", "a", "--output", "OUT"],
    ["evaluate", "a", "--output", "OUT"],
    ["train", "--train", "a", "--output", "OUT"],
    ["demo", "--output", "OUT"],
    ["rehearse", "--output", "OUT"],
    ["bodies", "build", "--output", "OUT"],
    ["weights", "import", "a", "--output", "OUT"],
    ["weights", "new", "dice-m", "--output", "OUT"],
]
FILES = [
    ["report", "a", "--output", "OUT"],
    ["dedupe", "a", "--output", "OUT"],
    ["recheck", "a", "--contact", "me@example.org", "--output", "OUT"],
    ["inspect-data", "a", "--output", "OUT"],
    ["priors", "a", "--output", "OUT"],
    ["bodies", "import", "a", "--output", "OUT"],
    ["weights", "export", "a", "--output", "OUT"],
]


def name(command: list[str]) -> str:
    return " ".join(command[:2])


def refused(command: list[str], output: Path, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(output.parent.rglob("*"))
    assert cli.main([str(output) if word == "OUT" else word for word in command]) == 2
    error = capsys.readouterr().err
    assert str(output) in error and said in error and "Errno" not in error and error.count("\n") == 1
    assert sorted(output.parent.rglob("*")) == before


@pytest.mark.parametrize("command", FOLDERS, ids=name)
def test_a_file_where_a_folder_is_needed(command, tmp_path, capsys):
    (tmp_path / "taken").write_text("mine")
    refused(command, tmp_path / "taken", "a file is there already", capsys)
    refused(command, tmp_path / "taken" / "below", "a part of this path is a file", capsys)
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("command", FILES, ids=name)
def test_a_folder_where_a_file_is_needed(command, tmp_path, capsys):
    (tmp_path / "taken").mkdir()
    refused(command, tmp_path / "taken", "is a folder, and a file is needed", capsys)


def test_a_place_without_the_right_to_write(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert cli.main(["predict", "a.jpg", "--output", str(tmp_path / "x")]) == 2
    assert f"{tmp_path}: no permission; change its rights, or choose another path" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_file_system_that_takes_no_folder(monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert cli.main(["predict", "a.jpg", "--output", "/proc/nope"]) == 2
    assert "/proc/nope: this file system cannot be written to; choose another path" in capsys.readouterr().err


@pytest.mark.parametrize("command", FOLDERS, ids=name)
def test_nothing_stays_of_the_look(command, tmp_path, monkeypatch):
    from handface.jobs.shared.arguments import parse_arguments
    from handface.jobs.shared.outputs import check_output

    verb = command[0].replace("-", "_")
    module = importlib.import_module(f"handface.jobs.{verb}")
    words = [str(tmp_path / "new" / "out") if word == "OUT" else word for word in command[1:]]
    check_output(parse_arguments(module, "handface", "", words).config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("train --train a --found nope.parquet", "--found nope.parquet: no such file"),
        ("train --train a --exclude nope.parquet", "--exclude nope.parquet: no such file"),
        ("weights new dice-m --points a --points-found nope.parquet", "--points-found nope.parquet: no such file"),
    ],
)
def test_lists_that_are_not_there_are_said_before_anything_is_loaded(command, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("handface.jobs.train.resolve", lambda config: pytest.fail("loaded"))
    assert cli.main([*command.split(), "--output", str(tmp_path / "out")]) == 2
    assert flag in capsys.readouterr().err


def test_a_taken_port_is_said_before_the_network_is_loaded(monkeypatch, capsys):
    import handface.jobs.demo_page as page

    monkeypatch.setattr(page, "build_predictor", lambda config: pytest.fail("loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli.main(["demo-page", "--port", str(port)]) == 2
        error = capsys.readouterr().err
        assert f"--port {port}" in error and "another" in error and "Errno" not in error
    assert cli.main(["demo-page", "--host", "192.0.2.1"]) == 2
    assert "--host 192.0.2.1" in capsys.readouterr().err
    assert cli.main(["demo-page", "--port", "70000"]) == 2
    assert "--port 70000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/b"), "a/b: the disk is full; free some space"),
        (OSError(errno.EBUSY, "Device or resource busy", b"a/b"), "a/b: device or resource busy"),
        (OSError(errno.EIO, "cannot write x: Input/output error"), "cannot write x: Input/output error"),
        (OSError("[Errno -2] Name or service not known"), "Name or service not known"),
        (ValueError("a.tar cannot be read ([Errno 13] Permission denied: 'a.tar')"), "(Permission denied: 'a.tar')"),
        (KeyError("x"), "'x'"),
        (ValueError(), "ValueError"),
    ],
)
def test_sentences(error, said):
    text = describe_error(error)
    assert said in text and "Errno" not in text
