"""How much a verb says while it works: --quiet, --verbose, HANDFACE_LOG, and a line where it would be silent."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from handface.jobs import cli
from handface.jobs.shared import messages


@pytest.fixture(autouse=True)
def own_level() -> Iterator[None]:
    """Levels are the process's; give them back."""
    log = logging.getLogger("handface")
    before = log.level
    yield
    log.setLevel(before)


@pytest.mark.parametrize(
    ("flags", "variable", "level"),
    [
        ([], "", "INFO"),
        (["--quiet"], "", "WARNING"),
        (["--verbose"], "error", "DEBUG"),
        ([], "error", "ERROR"),
    ],
)
def test_flags_come_before_the_variable(flags, variable, level, monkeypatch) -> None:
    monkeypatch.setenv(messages.LOG_VARIABLE, variable or "INFO")
    arguments = ["--input", "a", *flags]
    assert messages.take_level(arguments) == level and arguments == ["--input", "a"]


def test_flags_of_a_submitted_verb_are_its_own() -> None:
    arguments = ["submit", "--quiet", "--", "annotate", "--verbose"]
    assert messages.take_level(arguments) == "WARNING"
    assert arguments == ["submit", "--", "annotate", "--verbose"]


@pytest.mark.parametrize("verb", cli.BY_NAME)
@pytest.mark.parametrize("flag", [messages.QUIET, messages.VERBOSE])
def test_every_verb_takes_either(verb: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, flag, "--help"])
    assert ended.value.code == 0 and "--quiet" in capsys.readouterr().out


def test_they_may_stand_before_the_verb_but_not_together(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--quiet", "stats", "--help"])
    assert ended.value.code == 0
    assert cli.main(["--quiet", "stats", "x", "--verbose"]) == 2
    assert "choose one" in capsys.readouterr().err
    assert cli.main(["--output", "x", "stats"]) == 2
    assert "`handface VERB --output ...`" in capsys.readouterr().err


def test_a_silent_verb_says_that_it_works_and_a_talking_one_is_left_alone(monkeypatch, caplog) -> None:
    monkeypatch.setattr(messages, "HEARTBEAT", 0.2)
    log = logging.getLogger("handface")
    with caplog.at_level("INFO", "handface"):
        with messages.heartbeat("export"):
            time.sleep(1.7)
        silent = [text for text in caplog.messages if text.startswith("export: at work")]
        caplog.clear()
        with messages.heartbeat("export"):
            for step in range(12):
                log.info("step %d", step)
                time.sleep(0.1)
    assert silent and caplog.messages == [f"step {step}" for step in range(12)]


def test_long_runs_say_it_less_often() -> None:
    assert messages.pause_after(0) == messages.HEARTBEAT
    assert messages.pause_after(600) == 30
    assert messages.pause_after(86_400) == 60
