"""The README stays true: its commands exist, its verb table is the dispatcher's, its links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from handface.jobs import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("verb", cli.VERBS, ids=lambda verb: verb.name)
def test_every_verb_is_in_the_table_with_its_example(verb: cli.Verb) -> None:
    assert re.search(rf"^\| `{verb.name}` \|.*`handface {re.escape(verb.example)}`", README, re.M)


def test_no_verb_is_named_that_does_not_exist() -> None:
    named = set(re.findall(r"(?:^|[`$] ?)handface ([a-z-]+)", README, re.M))
    assert named <= set(cli.BY_NAME)


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets


def test_links_and_paths_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]
    paths = re.findall(r"`((?:pipeline|model|trainers|jobs|tests|docs|benchmarks)/[\w./]*)`", README)
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\.\[([a-z]+)\]", README)) <= set(extras)
