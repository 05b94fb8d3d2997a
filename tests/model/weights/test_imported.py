"""Weights on a selection of vertices of their own, as released ones are: moved, given their bodies again, posed, supervised."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from handface.model.bodies.load import FREE
from handface.model.bodies.npz import read_body, save_body
from handface.model.network.config import PRESETS
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology, TopologyError
from handface.model.weights.checkpoint import load_dice, save_dice
from handface.model.weights.named import load_network
from handface.model.weights.released_topology import released_topology
from handface.trainers.bodies import Bodies, at_levels


def select(count: int, keep: int) -> torch.Tensor:
    """D of a mesh transform file: `keep` vertices in an order of their own."""
    rows = torch.randperm(count, generator=torch.Generator().manual_seed(count))[:keep]
    index = torch.stack([torch.arange(keep), rows])
    return torch.sparse_coo_tensor(index, torch.ones(keep, dtype=torch.float64), (keep, count), check_invariants=True)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose levels have the counts of our own decimation, but other vertices."""
    folder = tmp_path_factory.mktemp("imported")
    for part in ("hand", "head"):
        shutil.copy(FREE[f"free-{part}"], folder / f"{part}.npz")
    hand, head = (read_body(folder / f"{part}.npz") for part in ("hand", "head"))
    counts = [len(level.keep) for level in head.levels]
    torch.save({"D": [select(len(hand.template), len(hand.levels[0].keep))]}, folder / "hand.pt")
    torch.save({"D": [select(len(head.template), counts[0]), select(*counts)]}, folder / "head.pt")
    topology = released_topology(
        *(str(folder / n) for n in ("hand.npz", "head.npz")), folder / "hand.pt", folder / "head.pt"
    )
    torch.manual_seed(0)
    config = replace(PRESETS["dice-nano"], sizes=topology.sizes, released=True)
    save_dice(Dice(config, topology), folder / "dice")
    return folder


def bodies_of(folder: Path) -> tuple[str, str]:
    return str(folder / "hand.npz"), str(folder / "head.npz")


def test_the_bodies_it_was_imported_with_are_taken_wherever_they_are(imported: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(imported, tmp_path / "elsewhere")
    for hand, head in (bodies_of(imported), bodies_of(moved)):
        for network in (
            load_network(moved / "dice", hand, head).network,
            load_dice(moved / "dice", Topology.from_bodies(hand, head)),
        ):
            assert (network.config.sizes.hand.body, network.config.sizes.head.body) == (hand, head)
            assert network.config.released


def test_other_bodies_are_refused(imported: Path, tmp_path: Path) -> None:
    arrays = read_body(imported / "head.npz")
    save_body(tmp_path / "other.npz", replace(arrays, template=arrays.template * 1.02))
    with pytest.raises(TopologyError, match="another rest shape"):
        load_network(imported / "dice", str(imported / "hand.npz"), str(tmp_path / "other.npz"))


def test_labels_are_taken_at_the_vertices_that_the_tokens_stand_for(imported: Path, tmp_path: Path) -> None:
    network = load_dice(imported / "dice", Topology.from_bodies(*bodies_of(imported)))
    save_dice(network, tmp_path / "tuned")  # what fine-tuning writes keeps the selection
    again = load_dice(tmp_path / "tuned", Topology.from_bodies(*bodies_of(imported)))
    bodies = Bodies.of(again.config)
    rest = bodies.head().vertices
    levels = at_levels(bodies.head, rest)
    coarse = levels[-1][0] - levels[-1][0].mean(0)
    tokens = again.template.split(list(again.config.sizes.groups))[3]
    assert [level.shape[1] for level in levels] == list(again.config.sizes.head.vertices)
    np.testing.assert_allclose(coarse.numpy(), tokens.numpy(), atol=1e-6)
