"""Flags that are given twice, and what a config says about its own values."""

from __future__ import annotations

import importlib
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

from handface.jobs import cli
from handface.jobs.shared.arguments import parse_arguments
from handface.jobs.shared.fields import is_positional, list_flags, takes_many
from handface.jobs.shared.mistakes import check_flags, flags_of
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
        (["evaluate", "x", "--pictures", "-1"], "--pictures -1: a whole number of at least 0 is expected"),
        (
            ["crawl", "--input", "x", "--output", "o", "--contact", "a@b.c", "--http.attempts", "0"],
            "attempts must be at least 1",
        ),
        (["models", "pul"], "nothing is called 'pul' here; did you mean pull?"),
        (
            ["annotate", "--prest", "x"],
            "no flag --prest; --preset is known to `handface weights new PRESET`, `handface train`",
        ),
        (["annotate", "--qqqq", "x"], "no flag --qqqq; --help-all lists them"),
        (["predict", "a.jpg", "--otput", "x"], "no flag --otput; did you mean --output?"),
        (
            ["annotate", "--input", "a", "--decode.min_sides=3"],
            "no flag --decode.min_sides; did you mean --decode.min-side?",
        ),
        (
            ["weights", "info", "x", "--modl"],
            "no flag --modl; --model is known to `handface bodies import MODEL`, `handface evaluate`",
        ),
        (
            ["train", "--train", "x", "--preset", "dice-nanp"],
            "--preset dice-nanp: no such choice; did you mean dice-nano?",
        ),
        (["predict", "a.jpg", "--output", "x", "--fit=of"], "--fit of: no such choice; did you mean off?"),
        (["evaluate", "x", "--limit", "0"], "--limit 0: a whole number of at least 1 is expected"),
        (["evaluate", "x", "--train-limit", "0"], "--train-limit 0: a whole number of at least 1 is expected"),
        (["predict", "a.jpg", "--output", "x", "--limit", "0"], "--limit 0: a whole number of at least 1 is expected"),
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


def test_a_group_of_flags_is_not_told_to_stand_without_a_flag() -> None:
    groups = 0
    for name, kind in configs():
        for one in fields(kind):
            hint = get_type_hints(kind, include_extras=True)[one.name]
            flag = f"--{one.name.replace('_', '-')}"
            if is_positional(hint) or flag in flags_of(kind):
                continue
            if not any(known.startswith(f"{flag}.") for known in flags_of(kind)):
                continue
            groups += 1
            with pytest.raises(ValueError, match="is a group of flags") as told:
                check_flags(kind, f"handface {name}", [flag, "x"], ())
            assert flag in str(told.value), name
    assert groups > 10


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("predict a.jpg", "handface predict: error: give --output (`handface predict --help`)"),
        ("annotate", "handface annotate: error: give --input and --output (`handface annotate --help`)"),
        ("weights new", "handface weights: error: give PRESET and --output (`handface weights new --help`)"),
        ("takedown", "handface takedown: error: give RELEASE (`handface takedown --help`)"),
        ("bodies", "handface bodies: error: say what to do: build, import, info (`handface bodies --help`)"),
        ("weights --quiet", "handface weights: error: say what to do: import, new, points, info, export"),
        (
            "predict a.jpg --output",
            "handface predict: error: --output: its value is missing (`handface predict --help`)",
        ),
        (
            "predict a.jpg --output x --batch-size two",
            "handface predict: error: --batch-size two: a whole number is expected (`handface predict --help`)",
        ),
        ("train --train x --steps ten", "--steps ten: a whole number is expected"),
        ("train --train x --lr fast", "--lr fast: a number is expected"),
        ("annotate --input a --output b --decode.min-side=x", "--decode.min-side x: a whole number is expected"),
        ("predict a.jpg --output x b.jpg", "predict: error: Unrecognized options: b.jpg (`handface predict --help`)"),
        ("train --replicats 3", "no flag --replicats; --replicates is known to `handface evaluate`"),
        ("predict --shards x", "--shards is known to `handface weights points SHARDS`, `handface evaluate SHARDS`"),
        ("train --input x", "did you mean --init?; --input is known to `handface crawl`, `handface annotate`"),
        ("export parts --output o --splits train", "--splits is a group of flags: --splits.train, --splits.validation"),
        ("export parts --output o --split 0.5", "--splits is a group of flags: --splits.train, --splits.validation"),
        ("train --train x --optim.lr 0.1", "keys of the configuration are given as --set optim.lr=VALUE"),
        (
            "jobs submit --address http://h:1 annotate --input a",
            "put `--` before the command of the job: `handface jobs submit ... -- annotate ...`",
        ),
        ("predict --input a.jpg", "what it names stands without a flag: `handface predict INPUTS`"),
        ("predict a.jpg --output x --meshes glb,objj", "--meshes glb,objj: no such choice as objj; did you mean obj?"),
        ("predict a.jpg --output x --format coc", "--format coc: no such choice as coc; did you mean coco?"),
    ],
)
def test_tyros_boxes_are_one_sentence_with_the_way_to_the_help(command: str, said: str, capsys) -> None:
    assert cli.main(command.split()) == 2
    error = capsys.readouterr().err
    assert said in error and error.startswith("handface ") and error.count("\n") == 1


def test_a_config_file_gives_what_is_required(tmp_path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("input: [a]\noutput: b\n")
    assert parse("annotate", "--config", str(file)).output == "b"
    assert parse("annotate", "--check", "--input", "a", "--output", "b", "--dry-run").check
    assert parse("train", "--steps", "None", "--lr", "1e-3").lr == 1e-3


@pytest.mark.parametrize("name", ["import", "new", "points", "info", "export"])
def test_help_of_a_command_is_its_own(name: str, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["weights", name, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    texts = {
        "import": "Turn the released checkpoint",
        "info": "Describe a checkpoint",
        "export": "Write a checkpoint as ONNX",
    }
    assert {one for one, text in texts.items() if text in said} == {name} & set(texts)
    assert "Convert, describe and export network weights" not in said
    assert ("Example: handface weights info" in said) == (name == "info")
