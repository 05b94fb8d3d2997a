"""Losses between the surfaces and the adversarial priors move what the network draws, with the regressors of every preset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from handface.model.network.config import PRESETS
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.model.weights.checkpoint import save_dice
from handface.trainers.build import build_network
from handface.trainers.config import PriorsRun
from handface.trainers.data import make_loader
from handface.trainers.distributed.ranks import Ranks
from handface.trainers.losses import DepthLossConfig, LossConfig
from handface.trainers.priors import ParameterSet, PriorSource, RealConfig
from handface.trainers.step import TrainStep
from tests.model.narrow import narrow_config
from tests.trainers.conftest import MakeRun


@pytest.fixture
def priors(tmp_path: Path) -> PriorsRun:
    """Hands and faces of the free bodies."""
    sizes = Topology.from_bodies().sizes
    widths = {"hand_pose": sizes.hand.pose, "hand_betas": sizes.hand.betas}
    widths |= {"head_jaw": 3, "head_expression": sizes.head.expression, "head_betas": sizes.head.betas}
    arrays = {name: torch.randn(6, width).numpy() for name, width in widths.items()}
    path = tmp_path / "real.safetensors"
    ParameterSet("real", **arrays, hand_model="free-hand", head_model="free-head").save(path)
    source = (PriorSource(str(path)),)
    return PriorsRun(RealConfig(source, source))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_term_moves_the_mesh_that_is_drawn(
    name: str, make_run: MakeRun, priors: PriorsRun, tmp_path: Path
) -> None:
    topology = Topology.from_bodies()
    regressor = replace(PRESETS[name].regressor, hidden=16)
    torch.manual_seed(0)
    weights = save_dice(Dice(narrow_config(topology.sizes, regressor=regressor), topology), tmp_path / "weights")
    loss = LossConfig(depth=DepthLossConfig(samples="all"))
    config = make_run(init=str(weights), loss=loss, priors=priors)
    step = TrainStep(build_network(config), config, Ranks(0, 1, torch.device("cpu")))
    assert step.network.interaction_net is not None
    # everything is said to touch, so that there is something to draw together
    step.network.interaction_net.blocks.bias_output(3, 4.0)
    batch = next(iter(make_loader(config.data, pin_memory=False)))
    step.network.train()
    terms, output = step.losses(0, batch)
    mesh = list(step.network.mesh_net.parameters())
    for term in ("touch", "collision", "depth", "adversarial_hand", "adversarial_head"):
        gradients = torch.autograd.grad(terms[term], mesh, retain_graph=True, allow_unused=True)
        assert any(value is not None and value.abs().max() > 0 for value in gradients), term
    for part, read in zip((output.hand, output.head), step.network.read_parameters(output), strict=True):
        for mine, theirs in zip(read, part.parameters, strict=True):
            torch.testing.assert_close(mine, theirs)
