"""What InteractionNet is told of the drawn mesh: distances of the other part, and no way back into the mesh."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from handface.model.network.config import NearnessConfig
from handface.model.network.deploy.export import export_onnx
from handface.model.network.dice import Dice
from handface.model.network.nearness import Nearness
from tests.model.narrow import narrow_config, narrow_topology

GROUPS = (1, 1, 2, 2)


def told(hand_x: float) -> torch.Tensor:
    """What tokens are told before the layers: hand point and two hand vertices at x, head's at 0. (T, 8)."""
    head, hand = [0.0, 0.0, 0.0], [hand_x, 0.0, 0.0]
    coordinates = torch.tensor([[hand, head, hand, hand, head, head]])
    near, seen = Nearness(4, GROUPS, NearnessConfig(hidden=4)), []
    near.read.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    near(coordinates)
    return seen[0][0, :, 3:]


@pytest.mark.parametrize("away", [0.02, -0.05])
def test_each_part_is_told_the_way_to_the_other(away: float) -> None:
    rows = told(away)
    for token in (0, 2, 3):  # the hand's
        torch.testing.assert_close(rows[token, :4], torch.tensor([-away, 0.0, 0.0, abs(away)]) / 0.05)
    for token in (1, 4, 5):
        torch.testing.assert_close(rows[token, :4], torch.tensor([away, 0.0, 0.0, abs(away)]) / 0.05)


def test_what_is_far_says_nothing_more() -> None:
    torch.testing.assert_close(told(0.4), told(4.0))
    assert told(0.4).isfinite().all()


def test_in_the_picture_plane_depth_is_told_apart() -> None:
    points = torch.zeros(1, 6, 3)
    points[:, [0, 2, 3], 2] = -0.03
    near, seen = Nearness(4, GROUPS, NearnessConfig(hidden=4)), []
    near.read.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    near(points)
    space, plane = seen[0][0, 2, 3:].split(4)
    torch.testing.assert_close(space * 0.05, torch.tensor([0.0, 0.0, 0.03, 0.03]))
    torch.testing.assert_close(plane * 0.05, torch.tensor([0.0, 0.0, 0.03, 0.0]))


def network() -> Dice:
    torch.manual_seed(0)
    return Dice(replace(narrow_config(), nearness=NearnessConfig(hidden=8)), narrow_topology())


def test_contact_does_not_move_the_mesh_through_it() -> None:
    model = network().train()
    output = model(torch.rand(2, 3, 64, 64), mask=torch.zeros(model.template.shape[0], dtype=torch.bool))
    output.head.contact_logits[0].sum().backward()
    assert all(parameter.grad is None for parameter in model.mesh_net.parameters())
    assert model.nearness.read[0].weight.grad is not None


def test_it_exports_and_needs_two_branches(tmp_path) -> None:  # type: ignore[no-untyped-def]
    errors = export_onnx(network().eval(), tmp_path / "near.onnx", 1e-4)
    assert max(errors.values()) < 1e-4
    with pytest.raises(ValueError, match="nearness"):
        replace(narrow_config(), interaction=(), mesh=narrow_config().with_one_branch().mesh, nearness=NearnessConfig())
    assert replace(narrow_config(), nearness=NearnessConfig()).with_one_branch().nearness is None
