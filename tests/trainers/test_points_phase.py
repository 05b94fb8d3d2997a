"""The phase without pictures: labels move with the points, heads learn, nothing else changes, and who cannot learn is told."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.trainers.bodies import Bodies
from handface.trainers.points import PointLabels, PointsPhase, learn_points, point_loss

SIZE, SCALE = 160, 400.0


@cache
def bodies(network: Dice) -> Bodies:
    return Bodies.of(network.config)


@pytest.fixture(scope="module")
def network() -> Dice:
    torch.manual_seed(0)
    return Dice.from_preset("dice-m", Topology.from_bodies())


def people(network: Dice, count: int, presence: float = 1.0) -> PointLabels:
    """The template, its hand moved at random, seen by a camera of 400 pixels per metre."""
    generator = torch.Generator().manual_seed(1)
    tokens = (network.template * torch.tensor([1.0, -1.0, -1.0])).expand(count, -1, -1).clone()
    hand_points, head_points, hand, _ = network.config.sizes.groups
    move = 0.05 * torch.randn(count, 1, 3, generator=generator)
    tokens[:, :hand_points] += move
    tokens[:, hand_points + head_points :][:, :hand] += move
    seen = tokens[:, :89].roll(-hand_points, 1)
    points = torch.cat([SCALE * seen[..., :2] + SIZE / 2, torch.ones(count, 89, 1)], 2)
    return PointLabels(points, points, tokens, torch.full((count,), presence))


def test_turned_samples_still_project_onto_their_points(network):
    labels = people(network, 6)
    torch.manual_seed(0)
    moved = labels.varied(torch.arange(6), SIZE, PointsPhase())
    assert not torch.allclose(moved.tokens, labels.tokens, atol=1e-3)
    true = moved.tokens[:, :89].roll(-21, 1)[..., :2]
    centred, seen = (
        true - true.mean(1, keepdim=True),
        moved.points[..., :2] - moved.points[..., :2].mean(1, keepdim=True),
    )
    scale = (centred * seen).sum((1, 2)) / centred.square().sum((1, 2))
    torch.testing.assert_close(scale[:, None, None] * centred, seen, rtol=1e-3, atol=1e-2)
    assert (scale / SCALE).min() >= 0.75 - 1e-3 and (scale / SCALE).max() <= 1.25 + 1e-3
    torch.testing.assert_close(moved.tokens.norm(dim=2), labels.tokens.norm(dim=2), rtol=1e-4, atol=1e-5)


def test_heads_learn_and_the_rest_stays(network):
    labels = people(network, 32)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.eval()
    with torch.no_grad():
        first = float(point_loss(network, bodies(network), labels))
    learn_points(network, labels, PointsPhase(steps=30, batch_size=16))
    with torch.no_grad():
        assert float(point_loss(network, bodies(network), labels)) < 0.6 * first
    changed = {
        name.split(".")[0] for name, value in network.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"point_cells", "placement", "camera", "presence", "hand_parameters", "head_parameters"}
    assert not network.training
    network.load_state_dict(before)


def test_unknown_presence_and_unseen_points_are_not_learned_from(network):
    labels = people(network, 4, presence=torch.nan)
    network.eval()
    assert torch.isfinite(point_loss(network, bodies(network), labels))
    labels.points[:, 5:] = 0  # and what was found is the same tensor
    wrong = PointLabels(labels.points.clone(), labels.found, labels.tokens, labels.presence)
    wrong.points[:, 5:, :2] = 1e4
    with torch.no_grad():
        torch.testing.assert_close(
            point_loss(network, bodies(network), labels), point_loss(network, bodies(network), wrong)
        )


def test_networks_that_do_not_look_at_points_are_refused(network):
    labels = people(network, 2)
    other = Dice.from_preset("dice-nano", Topology.from_bodies())
    with pytest.raises(ValueError, match="dice-nano does not look at points"):
        learn_points(other, labels)
