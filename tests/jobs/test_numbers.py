"""Numbers that no verb can mean are one sentence, before anything is done; what is the default, or is meant to be negative, passes."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

import pytest

from handface.jobs.cli import main
from handface.jobs.shared.mistakes import _every_config
from handface.jobs.shared.numbers import check_numbers
from handface.model.network.config import PRESETS
from handface.pipeline.contract.config import Share, Signed
from handface.trainers.config import TrainConfig
from handface.trainers.data.config import DataConfig, DatasetConfig

ANNOTATE = ["annotate", "--local", "--input", ".", "--output", "OUT"]
CRAWL = ["crawl", "--local", "--contact", "a@b.org", "--input", "x.csv", "--output", "OUT"]
WRONG = [
    ([*ANNOTATE, "--workers", "-1"], "--workers -1: a whole number of at least 0 is expected"),
    ([*ANNOTATE, "--check", "--workers=-1"], "--workers -1: a whole number of at least 0 is expected"),
    ([*CRAWL, "--workers", "-1"], "--workers -1: a whole number of at least 0 is expected"),
    ([*CRAWL, "--per-query", "0"], "--per-query 0: a whole number of at least 1 is expected"),
    ([*CRAWL, "--http.timeout", "nan"], "--http.timeout nan: a number of at least 0 is expected"),
    ([*ANNOTATE, "--nsfw.threshold", "1.5"], "--nsfw.threshold 1.5: a number from 0 to 1 is expected"),
    ([*ANNOTATE, "--contact.bias", "nan"], "--contact.bias nan: a number is expected"),
    ([*ANNOTATE, "--contact.scale", "nan", "2"], "--contact.scale nan: a number of at least 0 is expected"),
    ([*ANNOTATE, "--pack.jpeg-quality", "0"], "--pack.jpeg-quality 0: a whole number from 1 to 100 is expected"),
    (["evaluate", "x", "--workers", "-1"], "--workers -1: a whole number of at least 0 is expected"),
    (["evaluate", "x", "--most", "-1"], "--most -1: a whole number of at least 0 is expected"),
    (["synthesize", "--count", "0", "--output", "OUT"], "--count 0: a whole number of at least 1 is expected"),
    (
        ["export", "x", "--output", "OUT", "--splits.test", "nan"],
        "--splits.test nan: a number of at least 0 is expected",
    ),
    (
        ["predict", "x", "--output", "OUT", "--batch-size", "0"],
        "--batch-size 0: a whole number of at least 1 is expected",
    ),
    (
        ["predict", "x", "--output", "OUT", "--depth", "d", "--depth-side", "100"],
        "--depth-side 100: a multiple of 14 of at least 14 is expected",
    ),
    ([*ANNOTATE, "--depth.side", "100"], "--depth.side 100: a multiple of 14 of at least 14 is expected"),
    ([*ANNOTATE, "--depth.side", "0"], "--depth.side 0: a multiple of 14 of at least 14 is expected"),
    (["demo-page", "--port", "70000"], "--port 70000: a whole number from 0 to 65535 is expected"),
    (["dedupe", "x", "--output", "OUT", "--max-distance", "12"], "--max-distance 12: a whole number from 0 to 11 is"),
    (["train", "--train", "x", "--workers", "-1"], "--workers -1: N or MIN..MAX is expected"),
    (["train", "--train", "x", "--workers", "3..2"], "--workers 3..2: N or MIN..MAX is expected"),
]


@pytest.mark.parametrize(("command", "said"), WRONG, ids=[" ".join(command[-2:]) for command, _ in WRONG])
def test_a_number_that_cannot_be_meant_is_a_sentence(
    command: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out")
    assert main([output if word == "OUT" else word for word in command]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_config_file_is_looked_at_as_flags_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.json"
    file.write_text('{"workers": -1}')
    assert main(["annotate", "--config", str(file), "--input", ".", "--output", str(tmp_path / "out")]) == 2
    assert "--workers -1: a whole number of at least 0 is expected" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "kind"), list(_every_config()), ids=lambda one: one if isinstance(one, str) else "")
def test_the_defaults_of_a_verb_pass(verb: str, kind: type) -> None:
    whole = object.__new__(kind)
    for one in fields(kind):
        default = one.default if one.default_factory is MISSING else one.default_factory()
        object.__setattr__(whole, one.name, None if default is MISSING else default)
    check_numbers(whole)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_settings_of_a_preset_pass(preset: str) -> None:
    data = DataConfig((DatasetConfig("a", ("x",)),))
    check_numbers(TrainConfig.for_preset(preset, data), flags=False)


@dataclass(frozen=True)
class Inner:
    weight_decay: Share = 0.5
    offsets: tuple[Signed, ...] = (-1.0,)


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    many: tuple[Inner, ...] = ()
    named: dict[str, float] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("config", "flag", "setting"),
    [
        (Outer(Inner(weight_decay=2)), "--inner.weight-decay 2", "inner.weight_decay 2"),
        (Outer(many=(Inner(), Inner(weight_decay=-1))), "--many[1].weight-decay -1", "many[1].weight_decay -1"),
        (Outer(named={"b": -0.5}), "--named.b -0.5", "named.b -0.5"),
    ],
)
def test_numbers_at_any_depth_are_named(config: Outer, flag: str, setting: str) -> None:
    for flags, name in ((True, flag), (False, setting)):
        with pytest.raises(ValueError) as caught:
            check_numbers(config, flags)
        assert str(caught.value).startswith(f"{name}: ")
