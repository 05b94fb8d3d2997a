"""The dispatcher: help, suggestions, exit codes, one-line errors."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import handface.jobs as jobs
from handface.jobs import cli

TOY = '''"""A verb for tests."""
from dataclasses import dataclass
import tyro

@dataclass(frozen=True)
class Config:
    """Do a thing."""

    act: tyro.conf.Positional[str]
    """What to do."""
    times: int = 1
    """How often."""

def run(config: Config) -> int:
    match config.act:
        case "value":
            raise ValueError("shard a.tar:\\n  expected b")
        case "file":
            raise FileNotFoundError(2, "No such file", "x.tar")
        case "ours":
            from handface.pipeline.contract.sample import SampleError
            raise SampleError("member .jpg is missing")
        case "bug":
            raise AttributeError("a bug")
        case "interrupt":
            raise KeyboardInterrupt
    return config.times
'''

TOY_SUB = '''"""A verb with verbs."""
from dataclasses import dataclass

@dataclass(frozen=True)
class Pull:
    """Fetch."""

    name: str
    """What."""

@dataclass(frozen=True)
class Show:
    """Show."""

SUBCOMMANDS = {"pull": Pull, "list": Show}

def run(config: Pull | Show) -> int:
    return 7 if isinstance(config, Pull) and config.name == "x" else 8
'''


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two verbs that exist only here, found the way real ones are."""
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "toysub.py").write_text(TOY_SUB)
    monkeypatch.setattr(jobs, "__path__", [*jobs.__path__, str(tmp_path)])
    for name in ("toy", "toysub"):
        monkeypatch.setitem(cli.BY_NAME, name, cli.Verb(name, "Test", "a toy", f"{name} --flag 1"))
        monkeypatch.delitem(sys.modules, f"handface.jobs.{name}", raising=False)
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)


def run_handface(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "handface", *arguments], capture_output=True, text=True, check=False)


def test_help_is_instant_and_shows_every_verb_with_an_example() -> None:
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        result = run_handface("--help")
        best = min(best, time.perf_counter() - start)
    assert result.returncode == 0
    assert best < 0.5, f"handface --help took {best:.2f} s"
    assert "`handface VERB --help-all` every flag" in result.stdout
    for verb in cli.VERBS:
        assert f"$ handface {verb.example}" in result.stdout
        assert verb.group + ":" in result.stdout


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from handface.jobs.cli import main; main(['--help']); print(sorted(sys.modules))"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for heavy in ("numpy", "torch", "ray", "cv2", "tyro", "rich"):
        assert f"'{heavy}'" not in modules


@pytest.mark.parametrize("verb", cli.VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_its_module_and_its_example_starts_with_its_name(verb: cli.Verb) -> None:
    module = verb.name.replace("-", "_")
    spec = importlib.util.find_spec(f"handface.jobs.{module}")
    assert spec is not None and spec.origin is not None
    assert f'main_for("{verb.name}")' in Path(spec.origin).read_text(), f"python -m jobs.{module} would do nothing"
    assert verb.example.split()[0] == verb.name


@pytest.mark.parametrize(("given", "then"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_asleep_unless_told_otherwise(
    given: str | None, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set before a verb's module, which may import torch: that reads it once."""
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    seen: list[str | None] = []

    def note(name: str) -> object:
        seen.append(os.environ.get("OMP_WAIT_POLICY"))
        raise ValueError("no more is needed")

    monkeypatch.setattr(importlib, "import_module", note)
    assert cli.main(["stats", "anything"]) == 2
    assert seen == [then]


def test_every_module_that_runs_is_a_verb() -> None:
    folder = Path(cli.__file__).parent
    runs = {path.stem.replace("_", "-") for path in folder.glob("*.py") if "\ndef run(" in path.read_text()}
    assert runs == set(cli.BY_NAME), "add the module to VERBS in jobs/cli.py and to the README's table"


def test_unknown_verb_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["valdate"]) == 2
    assert "did you mean `handface validate`" in capsys.readouterr().err
    assert cli.main(["qqqqqq"]) == 2
    assert "there are demo" in capsys.readouterr().err


def test_the_help_of_no_verb_waits_for_torch_or_ray() -> None:
    code = """
import sys
from handface.jobs.cli import VERBS, main
for verb in VERBS:
    try:
        main([verb.name, "--help"])
    except SystemExit as end:
        assert not end.code, verb
    heavy = {"torch", "ray", "cv2", "mediapipe"} & set(sys.modules)
    assert not heavy, f"{verb.name}: {heavy}"
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=120)


def test_no_verb_prints_help_and_fails_and_version_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: handface VERB" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("handface 0.")


def test_exit_code_is_the_verbs_own(toys: None) -> None:
    assert cli.main(["toy", "go", "--times", "0"]) == 0
    assert cli.main(["toy", "go", "--times", "1"]) == 1


def test_verb_help_shows_flags_and_example(toys: None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["toy", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "handface toy --flag 1" in out and "--times" in out and "How often." in out


def test_subcommands_choose_their_dataclass(toys: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["toysub", "pull", "--name", "x"]) == 7
    assert cli.main(["toysub", "list"]) == 8
    assert cli.main(["toysub", "push"]) == 2
    assert "no command 'push'; there are pull, list" in capsys.readouterr().err
    assert cli.main(["toysub", "pul"]) == 2
    assert "did you mean `handface toysub pull`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("value", "handface toy: error: shard a.tar: expected b\n"),
        ("file", "handface toy: error: x.tar: no such file or folder\n"),
        ("ours", "handface toy: error: member .jpg is missing\n"),
    ],
)
def test_expected_errors_are_one_line_and_exit_2(
    toys: None, capsys: pytest.CaptureFixture[str], act: str, message: str
) -> None:
    assert cli.main(["toy", act]) == 2
    assert capsys.readouterr().err == message


def test_bugs_and_debugging_keep_the_traceback(toys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttributeError):
        cli.main(["toy", "bug"])
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    with pytest.raises(ValueError, match=r"a\.tar"):
        cli.main(["toy", "value"])


def test_interrupt_exits_130(toys: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["toy", "interrupt"]) == 130
    assert capsys.readouterr().err == "handface toy: interrupted; give the same command again\n"


def test_unknown_log_level_is_said(
    toys: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HANDFACE_LOG", "chatty")
    assert cli.main(["toy", "go"]) == 2
    assert "HANDFACE_LOG=CHATTY" in capsys.readouterr().err


def test_module_form_takes_the_same_arguments() -> None:
    environment = {**os.environ, "COLUMNS": "100"}
    result = subprocess.run(
        [sys.executable, "-m", "jobs.validate", "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert result.returncode == 0
    assert "handface validate" in result.stdout
