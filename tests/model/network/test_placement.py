"""Rotations in closed form, and the network that places its template."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from handface.model.bodies import load_body
from handface.model.bodies.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from handface.model.network.config import FACING, HAND_AT_FACE, PlacementConfig, RegressorConfig, preset
from handface.model.network.deploy.export import export_onnx
from handface.model.network.deploy.fold import fold
from handface.model.network.dice import Dice
from handface.model.network.placement import AlignedRegressor, build_regressor, fit_affine, polar_factor
from handface.model.network.topology import Topology
from tests.model.narrow import narrow_config, narrow_topology

ALIGNED = RegressorConfig(16, 1, 2, detached=True, norm="layer", aligned=True)


def placed(seed: int = 0) -> Dice:
    """A narrow network that places and aligns, a little away from where it starts."""
    topology = narrow_topology()
    torch.manual_seed(seed)
    config = narrow_config(topology.sizes, regressor=ALIGNED, placement=PlacementConfig(6, 8))
    model = Dice(config, topology).eval()
    with torch.no_grad():
        for value in model.parameters():
            value += 0.01 * torch.randn_like(value)
    return model


def pictures(batch: int) -> torch.Tensor:
    return torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def turns(count: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(Rotation.random(count, rng=np.random.default_rng(2)).as_matrix()).to(dtype)


@pytest.mark.parametrize("near", [(0.0, 0.0, 0.0), FACING, HAND_AT_FACE])
def test_axis_angle_of_a_matrix_is_that_rotation_on_the_side_that_was_asked_for(near):
    rotations = turns(500)
    found = matrix_to_axis_angle(rotations, near)
    torch.testing.assert_close(axis_angle_to_matrix(found), rotations, rtol=0, atol=1e-12)
    assert found.norm(dim=1).max() < 2 * np.pi
    quaternion = torch.cat([(found.norm(dim=1, keepdim=True) / 2).cos(), found], 1)
    towards = np.array([np.cos(np.linalg.norm(near) / 2), *near])
    sine = (found.norm(dim=1) / 2).sin() / found.norm(dim=1)
    start_sine = np.sin(np.linalg.norm(near) / 2) / max(np.linalg.norm(near), 1e-9)
    dot = quaternion[:, 0] * towards[0] + sine * start_sine * (found @ torch.tensor(near, dtype=torch.float64))
    assert (dot > -1e-9).all()


def test_axis_angle_is_continuous_at_half_a_turn():
    angles = torch.linspace(np.pi - 0.1, np.pi + 0.1, 41, dtype=torch.float64)
    vectors = angles[:, None] * torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(matrix_to_axis_angle(axis_angle_to_matrix(vectors), FACING), vectors)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 0.5, 3.0])
def test_axis_angle_has_the_gradient_of_finite_differences(angle):
    axis = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    start = (angle * axis / axis.norm()).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: matrix_to_axis_angle(axis_angle_to_matrix(v), (0.0, 0.0, 0.0)), start, atol=1e-5
    )


@given(st.integers(0, 10_000), st.floats(0.3, 3.0))
@settings(max_examples=25, deadline=None)
def test_polar_factor_is_that_of_the_singular_value_decomposition(seed, stretch):
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(rng=rng).as_matrix()
    along = Rotation.random(rng=rng).as_matrix()
    matrix = rotation @ (along @ np.diag([1.0, stretch, 1.4]) @ along.T)
    found = polar_factor(torch.from_numpy(matrix)[None])[0].numpy()
    np.testing.assert_allclose(found, rotation, atol=1e-5)


def test_linear_map_is_least_squares():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(30, 3)) * [1, 0.2, 0.5]
    source -= source.mean(0)
    target = source @ rng.normal(size=(3, 3)).T + 0.1 * rng.normal(size=(30, 3))
    target -= target.mean(0)
    expected = np.linalg.lstsq(source, target, rcond=None)[0].T
    found = fit_affine(torch.from_numpy(source), torch.from_numpy(target)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("part", ["hand", "head"])
def test_a_fresh_aligned_regressor_poses_the_body_where_the_vertices_are(part):
    """Rest meshes, turned and moved: global_orient and transl put the free body exactly there, whatever the rotation."""
    topology = getattr(Topology.from_bodies(), part)
    body = load_body(f"free-{part}", "free")
    torch.manual_seed(0)
    config = dataclasses.replace(preset("dice-s").regressor, hidden=16)
    regressor = build_regressor(part, topology.sizes, config, topology)
    assert isinstance(regressor, AlignedRegressor)
    with torch.no_grad():
        regressor.local.layers[-1].weight.zero_()  # type: ignore[union-attr,operator,index]
    rest = torch.from_numpy(topology.coarse).float()
    moved = rest @ turns(6, torch.float32).transpose(1, 2) + torch.randn(6, 1, 3)
    with torch.no_grad():
        found = regressor(moved, rest)
        posed = body(global_orient=found.global_orient, transl=found.transl).vertices
    torch.testing.assert_close(posed[:, body.levels[-1].keep], moved, rtol=0, atol=2e-5)


def test_a_fresh_network_starts_with_a_facing_head_and_a_hand_at_it():
    topology = Topology.from_bodies()
    torch.manual_seed(0)
    model = Dice.from_preset("dice-nano", topology).eval()
    assert model.placement is not None
    with torch.no_grad():
        model.placement.out.weight.zero_()  # what differs between pictures starts small; this is what they share
        output = model(torch.rand(2, 3, 128, 128))
    head = output.head.vertices[-1]
    expected = torch.from_numpy(topology.head.coarse - topology.head.coarse.mean(0)).float() * torch.tensor([1, -1, -1])
    torch.testing.assert_close(head[0], expected, rtol=0, atol=1e-4)
    between = output.hand.vertices[-1].mean(1) - output.head.vertices[-1].mean(1)
    torch.testing.assert_close(between, torch.tensor([[-0.01, 0.03, -0.06]]).expand(2, 3), rtol=0, atol=1e-4)
    turned = axis_angle_to_matrix(output.head.parameters.global_orient)
    torch.testing.assert_close(turned[0], torch.diag(torch.tensor([1.0, -1.0, -1.0])), rtol=0, atol=0.1)


def test_it_can_be_exported_and_folded(tmp_path):
    model = placed()
    assert max(export_onnx(model, tmp_path / "placed.onnx").values()) < 1e-4
    with torch.no_grad():
        expected, found = model(pictures(2)).flatten(), fold(model)(pictures(2)).flatten()
    for name, value in expected.items():
        if name in found:
            torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def test_rotations_stay_exact_under_bf16():
    model = placed()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        output = model(pictures(2))
    for part in (output.hand, output.head):
        matrix = axis_angle_to_matrix(part.parameters.global_orient)
        assert part.parameters.global_orient.dtype == torch.float32
        torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(2, 3, 3), rtol=0, atol=1e-5)


def test_another_level_is_refused():
    topology = narrow_topology()
    with pytest.raises(ValueError, match="coarsest mesh, level 2 of small-head, not 1"):
        Dice(narrow_config(topology.sizes, regressor=dataclasses.replace(ALIGNED, head_level=1)), topology)
