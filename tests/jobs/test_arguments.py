"""Flags that are given twice, and what a config says about its own values."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from handface.jobs import cli
from handface.jobs.shared.arguments import parse_arguments
from handface.jobs.shared.fields import list_flags, takes_many
from tests.jobs.test_flags import configs


def parse(verb: str, *arguments: str) -> Any:
    return parse_arguments(importlib.import_module(f"handface.jobs.{verb}"), f"handface {verb}", "", arguments).config


def test_all_values_of_a_flag_for_many_count() -> None:
    found = parse("annotate", "--input", "a", "b", "--output", "o", "--input=c", "--local", "--local", "--input", "d")
    assert found.input == ("a", "b", "c", "d") and found.output == "o" and found.local
    assert parse("train", "--train=x", "--train", "y", "--wild", "z").train == ("x", "y")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("predict", ["a.jpg", "--output", "o", "--format", "coco", "--format", "smplx"]),
        ("predict", ["a.jpg", "--output", "o", "--output=p"]),
        ("predict", ["a.jpg", "--output", "o", "--batch-size", "2", "--batch_size", "3"]),
        ("annotate", ["--input", "a", "--output", "o", "--read.http.timeout", "2", "--read.http.timeout", "3"]),
        ("annotate", ["--input", "a", "--output", "o", "--config", "a.yaml", "--config", "b.yaml"]),
        ("train", ["--config", "a.yaml", "--config", "b.yaml"]),
    ],
)
def test_a_flag_for_one_value_is_refused_twice(verb: str, arguments: list[str], capsys) -> None:
    assert cli.main([verb, *arguments]) == 2
    assert "is given twice and takes one value" in capsys.readouterr().err


def test_what_follows_two_dashes_is_another_command() -> None:
    words = ["jobs", "--", "predict", "--output", "a", "--output", "b"]
    assert parse("jobs", "submit", "--address", "http://h:1", *words[1:]).command == tuple(words[2:])


def test_every_flag_is_known_by_its_name() -> None:
    for name, kind in configs():
        flags = dict(list_flags(kind))
        assert all(flag.startswith("--") for flag in flags), name
        many = {flag for flag, hint in flags.items() if takes_many(hint)}
        assert name != "train" or many == {
            "--train",
            "--wild",
            "--validation",
            "--exclude",
            "--found",
            "--priors",
            "--set",
        }


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["evaluate", "x", "--pictures", "-1"], "pictures is -1; 0 draws none"),
        (
            ["crawl", "--input", "x", "--output", "o", "--contact", "a@b.c", "--http.attempts", "0"],
            "attempts must be at least 1",
        ),
        (["models", "pul"], "nothing is called 'pul' here; did you mean pull?"),
        (["annotate", "--prest", "x"], "no flag --prest; --help-all lists them"),
        (["predict", "a.jpg", "--otput", "x"], "no flag --otput; did you mean --output?"),
        (
            ["annotate", "--input", "a", "--decode.min_sides=3"],
            "no flag --decode.min_sides; did you mean --decode.min-side?",
        ),
        (["weights", "info", "x", "--modl"], "no flag --modl; --help-all lists them"),
        (
            ["train", "--train", "x", "--preset", "dice-nanp"],
            "--preset dice-nanp: no such choice; did you mean dice-nano?",
        ),
        (["predict", "a.jpg", "--output", "x", "--fit=of"], "--fit of: no such choice; did you mean off?"),
        (["evaluate", "x", "--limit", "0"], "--limit 0 must be at least 1"),
        (["evaluate", "x", "--train-limit", "0"], "--train-limit 0 must be at least 1"),
        (["predict", "a.jpg", "--output", "x", "--limit", "0"], "--limit 0 must be at least 1"),
        (
            ["decaf-to-shards", "--decaf", "nowhere", "--output", "o"],
            "--decaf nowhere: no such folder; give the folder",
        ),
        (["predict", "--output", "x"], "name at least one photo"),
        (["train", "--train", "x", "--steps", "0"], "steps is 0; at least 1"),
        (["train", "--train", "x", "--set", "optim.lr=fast"], "optim.lr is 'fast': "),
    ],
)
def test_a_wrong_value_is_one_sentence(command: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"handface {command[0]}: error: ") and said in error and error.count("\n") == 1


def test_a_value_of_another_type_keeps_the_flags_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", "a.jpg", "--output", "x", "--batch-size", "two"])
    assert ended.value.code == 2 and "Crops the network gets at once" in capsys.readouterr().err
