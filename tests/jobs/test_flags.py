"""The command line is an interface: its verbs and flags are frozen in `flags.txt`, and config files speak the same names."""

from __future__ import annotations

import importlib
import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import tyro

from handface.jobs import cli
from handface.jobs.shared.arguments import parse_arguments
from handface.jobs.shared.fields import dataclass_of, list_flags

FROZEN = Path(__file__).with_name("flags.txt")
MOST_SHOWN = 25


def flags_of(kind: type, prefix: str = "--") -> list[str]:
    """Every flag of a config dataclass, nested ones with their prefix; required ones end in !."""
    hints, found = get_type_hints(kind, include_extras=True), []
    for one in fields(kind):
        name = prefix + one.name.replace("_", "-")
        nested = dataclass_of(hints[one.name])
        if nested is not None:
            found += flags_of(nested, name + ".")
        else:
            required = one.default is MISSING and one.default_factory is MISSING
            found.append(name + ("!" if required else ""))
    return found


def configs() -> list[tuple[str, type]]:
    found: list[tuple[str, type]] = []
    for verb in cli.VERBS:
        module = importlib.import_module(f"handface.jobs.{verb.name.replace('-', '_')}")
        subcommands: dict[str, type] | None = getattr(module, "SUBCOMMANDS", None)
        found += (
            [(verb.name, module.Config)]
            if subcommands is None
            else [(f"{verb.name} {name}", kind) for name, kind in subcommands.items()]
        )
    return found


def listing() -> str:
    return "".join(f"{name}\n" + "".join(f"  {flag}\n" for flag in flags_of(kind)) for name, kind in configs())


def test_verbs_and_flags_are_the_frozen_ones() -> None:
    assert listing() == FROZEN.read_text(), (
        "the command line changed. If that is wanted, say so in CHANGELOG.md and write the new list: "
        "python -m tests.jobs.test_flags"
    )


@pytest.mark.filterwarnings("ignore:get_parser")
@pytest.mark.parametrize(("name", "kind"), configs(), ids=[name for name, _ in configs()])
def test_the_flags_that_words_are_checked_against_are_those_that_tyro_reads(name: str, kind: type) -> None:
    parser = tyro.extras.get_parser(kind, config=(tyro.conf.FlagCreatePairsOff,))
    read = {
        word.replace("_", "-") for action in parser._actions for word in action.option_strings if word.startswith("--")
    }
    positional = tyro.conf.Positional
    known = {flag for flag, hint in list_flags(kind) if positional not in getattr(hint, "__metadata__", ())}
    assert known == read - {"--help"}


@pytest.mark.parametrize(("name", "kind"), configs(), ids=[name for name, _ in configs()])
def test_help_shows_at_most_25_flags(name: str, kind: type) -> None:
    shown = [one for one in fields(kind) if dataclass_of(get_type_hints(kind, include_extras=True)[one.name]) is None]
    assert len(shown) <= MOST_SHOWN, "put some into a nested config: --help shows the top level alone"


def switched_on(kind: type, prefix: str = "--") -> list[str]:
    """Flags that switch something off which is on by default, `--http.no-consent`."""
    hints, found = get_type_hints(kind, include_extras=True), []
    for one in fields(kind):
        nested = dataclass_of(hints[one.name])
        name = one.name.replace("_", "-")
        if nested is not None:
            found += switched_on(nested, f"{prefix}{name}.")
        elif one.default is True:
            found.append(f"{prefix}no-{name}")
    return found


@pytest.mark.parametrize(("name", "kind"), [pair for pair in configs() if switched_on(pair[1])], ids=lambda x: str(x))
def test_help_of_a_negated_flag_says_what_the_flag_does(
    name: str, kind: type, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        cli.main([*name.split(), "--help-all"])
    text = " ".join(line.strip("│ ") for line in capsys.readouterr().out.splitlines())
    for flag in switched_on(kind):
        said = text.partition(f" {flag} ")[2].partition("(default:")[0]
        assert "(default: True)" not in text.partition(f" {flag} ")[2].partition(" --")[0]
        assert said.strip().startswith("Whether") and f"no-{flag.rpartition('no-')[2]}" in said, (flag, said)


def test_one_vocabulary() -> None:
    for name, kind in configs():
        for flag in flags_of(kind):
            assert flag.rstrip("!") not in {"--hand", "--head", "--hand-body", "--head-body", "--batch", "--out"}, (
                name,
                flag,
            )


def annotate(*arguments: str) -> Any:
    return parse_arguments(importlib.import_module("handface.jobs.annotate"), "handface annotate", "", arguments)


def test_flags_override_the_config_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "annotate.yaml"
    file.write_text("input: [photos]\noutput: parts\nunit-size: 7\ndecode: {min_side: 12}\n")
    parsed = annotate("--config", str(file), "--output", "elsewhere").config
    assert (parsed.input, parsed.output, parsed.unit_size, parsed.decode.min_side) == (("photos",), "elsewhere", 7, 12)
    assert parsed.decode.max_pixels == annotate("--input", "a", "--output", "b").config.decode.max_pixels


def test_dumped_configuration_reads_back_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "folder" / "config.json"
    arguments = ["annotate", "--input", "a", "b", "--output", "c", "--decode.min-side", "33", "--local"]
    assert cli.main([*arguments, "--dump-config", str(file)]) == 0
    assert annotate("--config", str(file)).config == annotate(*arguments[1:]).config
    assert json.loads(file.read_text())["local"] is True
    assert not (tmp_path / "c").exists() and "wrote" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("outptu: x", "no setting outptu; did you mean output?"),
        ("decode: {min_sides: 3}", "decode: no setting min_sides; did you mean min_side?"),
        ("unit_size: many", "unit_size: 'many'"),
        ("- a\n- b", "holds a list"),
        ("a: [", "not YAML"),
    ],
)
def test_a_wrong_config_file_is_refused_by_name(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    assert cli.main(["annotate", "--config", str(file), "--input", "a", "--output", "b"]) == 2
    error = capsys.readouterr().err
    assert said in error and "wrong.yaml" in error


def test_a_missing_config_file_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["annotate", "--config", "nowhere.yaml"]) == 2
    assert "nowhere.yaml" in capsys.readouterr().err


def test_short_help_names_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["annotate", "--help"])
    short = capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["annotate", "--help-all"])
    whole = capsys.readouterr().out
    assert "--decode.*" in short and "--decode.max-pixels" not in short
    assert "--decode.max-pixels" in whole


if __name__ == "__main__":
    FROZEN.write_text(listing())
