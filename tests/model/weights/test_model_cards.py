"""The model cards' own commands are ones that the command line understands, so that a shipped network can be made again."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from handface.jobs import cli
from handface.jobs.shared.arguments import parse_arguments
from handface.model.weights.named import EMBEDDED

ROOT = Path(__file__).parents[3]
CARDS = sorted(EMBEDDED.glob("*/README.md"))


def commands(card: Path) -> list[str]:
    """Lines of the card's code blocks, without their comments."""
    blocks = re.findall(r"```\w*\n(.*?)```", card.read_text(), re.S)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_every_command_of_a_card_is_understood(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = commands(card)
    assert any(line.startswith("handface train") for line in lines)
    for line in lines:
        words = shlex.split(line)
        if words[0] == "handface":
            module = importlib.import_module(f"handface.jobs.{words[1].replace('-', '_')}")
            assert words[1] in cli.BY_NAME
            parse_arguments(module, words[1], "", words[2:])
        else:  # python -m or torchrun -m, of a module that exists
            module = words[words.index("-m") + 1]
            assert importlib.util.find_spec(module) or importlib.util.find_spec(f"handface.{module}"), line
        for path in re.findall(r"model/data/\S+", line):
            assert (ROOT / path).is_file(), path
