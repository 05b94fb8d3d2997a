"""The network: shapes, conventions, switches, gradients, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.model.network.config import AutoConfig, BlockConfig, DiceConfig, UpsamplingConfig, preset
from handface.model.network.deploy.fold import fold
from handface.model.network.deploy.inference import InferenceConfig, prepare
from handface.model.network.dice import Dice
from handface.model.network.output import DiceOutput
from handface.model.network.topology import Topology, TopologyError
from handface.model.network.transformer import Tokens
from tests.model.narrow import narrow_config, narrow_topology
from tests.model.reference_dice import randomise


def build(seed: int = 0, **changes) -> Dice:
    torch.manual_seed(seed)
    return Dice(narrow_config(**changes), narrow_topology())


def alive(**changes) -> Dice:
    """Random statistics too, and with presence on both sides of the gate for `pictures(4)`."""
    model = build(**changes)
    fixed = {key: value.clone() for key, value in model.state_dict().items() if key == "template" or "weights" in key}
    indices = {key: value.clone() for key, value in model.state_dict().items() if key.endswith("indices")}
    randomise(model, 5)
    model.load_state_dict(fixed | indices, strict=False)
    with torch.no_grad():
        logits = model(pictures(4)).presence_logit.sort().values
        model.presence.pool.bias -= (logits[1] + logits[2]) / 2
    return model


def pictures(batch: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def test_shapes_follow_from_the_topology():
    output = build().eval()(pictures(2))
    hand, head = output.hand, output.head
    assert [tuple(v.shape) for v in hand.vertices] == [(2, 20, 3), (2, 7, 3)]
    assert [tuple(v.shape) for v in head.vertices] == [(2, 40, 3), (2, 17, 3), (2, 9, 3)]
    assert [tuple(v.shape) for v in head.contact_logits] == [(2, 40), (2, 17), (2, 9)]
    assert [tuple(v.shape) for v in head.deformation] == [(2, 40, 3), (2, 17, 3), (2, 9, 3)] and hand.deformation == ()
    assert hand.keypoints.shape == (2, 3, 3) and head.keypoints.shape == (2, 4, 3)
    assert [tuple(p.shape) for p in head.parameters] == [(2, 3), (2, 5), (2, 6), (2, 3), (2, 3)]
    assert hand.parameters.expression.shape == (2, 0) and hand.parameters.pose.shape == (2, 6)
    assert output.camera.shape == (2, 3) and output.presence.shape == (2,) and head.contact.shape == (2, 40)
    torch.testing.assert_close(head.deformed, head.vertices[0] - head.deformation[0])
    again = DiceOutput.unflatten(output.flatten())
    assert all(torch.equal(again.flatten()[key], value) for key, value in output.flatten().items())


def test_one_branch_gives_the_same_kinds_of_output():
    config = narrow_config().with_one_branch()
    model = Dice(config, narrow_topology())
    assert model.interaction_net is None and DiceConfig.from_json(config.to_json()) == config
    output, two = model.eval()(pictures(2)), build().eval()(pictures(2))
    assert {k: v.shape for k, v in output.flatten().items()} == {k: v.shape for k, v in two.flatten().items()}
    output.head.contact_logits[0].sum().backward()
    assert model.mesh_net[-1].head.weight.grad is not None  # contact now comes from the mesh branch
    with pytest.raises(ValueError, match="must end in 7 channels"):
        replace(narrow_config(), interaction=())


@pytest.mark.parametrize("kind", ["dense", "mesh"])
@pytest.mark.parametrize("one_branch", [False, True])
def test_a_fresh_network_neither_deforms_nor_touches(kind: str, one_branch: bool):
    config = narrow_config(upsampling=UpsamplingConfig(kind, rank=4))  # type: ignore[arg-type]
    model = Dice(config.with_one_branch() if one_branch else config, narrow_topology())
    output = model.train()(pictures(4))
    assert all(bool((level == 0).all()) for level in output.head.deformation)
    for level in (*output.hand.contact_logits, *output.head.contact_logits):
        assert level.min().item() > -5 and level.max().item() < -3
    assert output.head.vertices[0].std().item() > 0
    (output.head.deformation[0] - 1).square().sum().backward()
    branch = model.mesh_net[-1] if one_branch else model.interaction_net.blocks[-1]
    assert float(branch.head.weight.grad.abs().sum()) > 0  # and it can leave there


def test_detached_regressors_leave_the_vertices_alone():
    for detached in (False, True):
        regressor = replace(narrow_config().regressor, detached=detached)
        model = build(regressor=regressor).eval()
        model(pictures(2)).hand.parameters.betas.square().sum().backward()
        reached = any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.mesh_net.parameters())
        assert reached is not detached
        assert model.hand_parameters.layers[-1].weight.grad is not None


def test_presets_on_the_free_bodies():
    topology = Topology.from_bodies()
    assert topology.sizes.groups[:2] == (21, 68)
    small = Dice.from_preset("dice-s", topology)
    assert sum(value.numel() for value in small.parameters()) < 30e6
    part, origin = topology.hand, topology.hand.coarse.mean(0)
    tokens = topology.sizes.groups
    expected = torch.from_numpy(part.coarse - origin).float()
    torch.testing.assert_close(small.template[sum(tokens[:2]) : sum(tokens[:3])], expected)
    assert preset("dice-w64").sizes.tokens == 843
    with pytest.raises(ValueError, match="no preset 'dice-xl'; did you mean dice-s"):
        preset("dice-xl")


def test_up_sampling_starts_as_the_bodys_interpolation():
    topology = Topology.from_bodies()
    from handface.model.bodies import load_body
    from handface.model.network.upsampling import Upsampling

    body = load_body("free-head", "decaf")
    level = body.levels[1]
    values = torch.randn(2, len(level.keep), 3)
    for kind in ("dense", "mesh"):
        up = Upsampling(topology.head.sizes.vertices, UpsamplingConfig(kind), topology.head)
        fine, middle, coarse = up(values)
        assert torch.equal(coarse, values)
        kept = torch.isin(body.levels[0].keep, level.keep)  # coarse vertices keep their value at every level
        torch.testing.assert_close(middle[:, kept], values[:, torch.argsort(torch.argsort(level.keep))])
        assert (fine.amax(1) <= values.amax(1) + 1e-5).all() and (fine.amin(1) >= values.amin(1) - 1e-5).all()


def test_factored_tokens_equal_explicit_ones():
    generator = torch.Generator().manual_seed(0)
    template, cells = torch.randn(11, 3, generator=generator), torch.randn(2, 4, 6, generator=generator)
    mix, bias = torch.randn(11, 4, generator=generator), torch.randn(11, generator=generator)
    mask = torch.rand(2, 11, 1, generator=generator) < 0.4
    linear = torch.nn.Linear(9, 5)
    features = mix @ cells + bias[:, None]
    explicit = torch.cat([template.expand(2, -1, -1), features], 2)
    found = Tokens(template, cells, mix, bias, None, 0.01).project(linear)
    torch.testing.assert_close(found, linear(explicit))
    found = Tokens(template, cells, mix, bias, mask, 0.01).project(linear)
    torch.testing.assert_close(found, linear(explicit.masked_fill(mask, 0.01)))


def test_bgr_swaps_channels_before_normalising_by_position():
    rgb = build()
    bgr = build(input=replace(rgb.config.input, channel_order="bgr"))
    image = pictures(1)
    torch.testing.assert_close(bgr.normalize(image), rgb.normalize(image[:, [2, 1, 0]]))
    white = rgb.normalize(torch.full((1, 3, 64, 64), 255, dtype=torch.uint8))[0, :, 0, 0]
    torch.testing.assert_close(white, (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), ratio=st.floats(0, 1))
def test_a_drawn_mask_blanks_at_most_its_share(seed, ratio):
    model = MODEL
    model.config = replace(model.config, mask_ratio=ratio)
    mask = model.draw_mask(torch.Generator().manual_seed(seed))
    assert mask.dtype == torch.bool and mask.shape == (23,)
    assert mask.sum() <= ratio * 23
    assert torch.equal(mask, model.draw_mask(torch.Generator().manual_seed(seed)))


MODEL = build()


def test_masks_cover_the_whole_range_of_shares():
    generator = torch.Generator().manual_seed(0)
    model = build()
    counts = np.array([model.draw_mask(generator).sum().item() for _ in range(400)])
    assert counts.min() == 0 and counts.max() == int(0.3 * 23)
    assert abs(counts.mean() - 3) < 0.3  # floor of a uniform share of 6.9


def test_masking_and_dropout_are_off_in_eval_and_on_in_training():
    model = alive(dropout=0.0)
    with torch.no_grad():
        one, two = model(pictures(4)), model(pictures(4))
        assert torch.equal(one.head.vertices[0], two.head.vertices[0])
        model.train()
        torch.manual_seed(0)
        drawn = [model(pictures(4)).head.keypoints for _ in range(6)]
        assert len({float(points.sum()) for points in drawn}) > 1
        everything_kept = torch.zeros(23, dtype=torch.bool)
        first, second = (model(pictures(4), everything_kept).head.keypoints for _ in range(2))
        assert torch.equal(first, second)


def test_the_presence_gate_works_in_eval_mode_at_full_resolution_only():
    model = alive(dropout=0.0)
    ungated = alive(dropout=0.0, presence_gate=False)
    with torch.no_grad():
        gated, free = model(pictures(4)), ungated(pictures(4))
    closed = gated.presence <= 0.5
    assert closed.sum() == 2
    assert (gated.head.deformation[0][closed] == 0).all() and (free.head.deformation[0][closed] != 0).any()
    assert torch.equal(gated.head.deformation[0][~closed], free.head.deformation[0][~closed])
    assert torch.equal(gated.head.deformation[1], free.head.deformation[1])
    model.train()
    assert (model(pictures(4)).head.deformation[0] != 0).flatten(1).any(1).all()


def test_the_camera_is_weak_perspective_about_the_head():
    model = alive()
    output = model(pictures(2))
    torch.testing.assert_close(output.camera_origin, output.head.vertices[0].mean(1))
    assert (output.camera[:, 0] > 0).all()
    centre = output.project(output.camera_origin[:, None])[:, 0]
    torch.testing.assert_close(centre, output.camera[:, 1:])
    moved = output.project(output.camera_origin[:, None] + torch.tensor([0.1, 0.2, 5.0]))[:, 0]
    torch.testing.assert_close(moved - centre, output.camera[:, :1] * torch.tensor([[0.1, 0.2]]))
    world = alive(camera=replace(model.config.camera, origin="world"))(pictures(2))
    assert (world.camera_origin == 0).all()


def test_training_starts_with_the_mesh_inside_the_picture():
    with torch.no_grad():
        scale, x, y = build().eval()(pictures(2)).camera[0].tolist()
    assert 300 < scale < 1200 and 40 < x < 184 and 40 < y < 184


def test_every_parameter_learns():
    model = build(dropout=0.0).train()
    output = model(pictures(3))
    loss = sum((value - 1).square().sum() for value in output.flatten().values())
    loss.backward()
    still = [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    # A zero correction starts with a gradient in one factor only, and in none where the values are zero, as deformations are;
    # a bias before a batch norm or a softmax has none.
    dead = {n for n in still if not n.endswith("reduce.weight") and not n.startswith("head_deformation_up.")}
    assert not {name for name in dead if name.endswith("weight")}, dead


def test_changing_one_image_leaves_the_others_alone():
    model = alive()
    batch = pictures(3)
    other = batch.clone()
    other[1] = 0
    with torch.no_grad():
        one, two = model(batch).flatten(), model(other).flatten()
    for name, value in one.items():
        torch.testing.assert_close(value[[0, 2]], two[name][[0, 2]])
    assert not torch.allclose(one["head_vertices_0"][1], two["head_vertices_0"][1])


@pytest.mark.parametrize("kind", ["mesh", "dense"])
def test_the_folded_network_is_the_same_function(kind):
    model = alive(upsampling=UpsamplingConfig(kind, rank=4))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        expected, found = model(pictures(4)).flatten(), fold(model)(pictures(4)).flatten()
        prepared = prepare(model)(pictures(4)).flatten()
    assert not any(isinstance(part, torch.nn.BatchNorm2d | torch.nn.BatchNorm1d) for part in fold(model).modules())
    middle = {f"head_{kind}_{level}" for kind in ("contact_logits", "deformation") for level in (1, 2)}
    assert expected.keys() - found.keys() == middle | {"hand_contact_logits_1"}
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(prepared[name], value, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_bf16_is_close_and_returns_float32():
    model = alive()
    exact, mixed = prepare(model)(pictures(4)), prepare(model, InferenceConfig("bf16"))(pictures(4))
    for name, value in exact.flatten().items():
        other = mixed.flatten()[name]
        assert other.dtype == torch.float32
        if name == "presence_logit":  # `alive` puts these close to 0
            torch.testing.assert_close(other, value, rtol=0, atol=0.02)
        elif name != "head_deformation_0":  # the gate may fall the other way at presence 0.5
            assert (other - value).norm() < 0.05 * value.norm() + 1e-3, name


def test_a_backbone_of_transformers_by_name():
    options = {"num_stages": 2, "hidden_sizes": [8, 16], "depths": [1, 1]}
    model = build(backbone=AutoConfig("convnext", options)).eval()
    output = model(pictures(2))
    assert model.backbone.features == 16 and model.mix.in_features == 64
    assert output.head.vertices[0].shape == (2, 40, 3)
    with pytest.raises(ValueError, match="backbone 'no-such' is neither a folder nor a model type"):
        build(backbone=AutoConfig("no-such"))


def test_configuration_json_round_trip():
    for config in (
        preset("dice-w64"),
        preset("dice-s"),
        narrow_config(backbone=AutoConfig("convnext", {"depths": [1]})),
    ):
        assert DiceConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build()(torch.rand(2, 3, 32, 64)), r"images have shape \(2, 3, 32, 64\), expected \(B, 3, 64, 64\)"),
        (lambda: build()(pictures(1)), "at least 2 images"),
        (lambda: build(mesh=(BlockConfig(8, 4, 1, 2, 8),)), "must end in 3 channels"),
        (lambda: build(interaction=(BlockConfig(8, 3, 1, 2, 8),)), "must end in 3 . 1 channels"),
        (lambda: BlockConfig(10, 3, heads=4), "not divisible by 4 heads"),
        (lambda: build(input=replace(narrow_config().input, size=70)), "70 is not a multiple of 32"),
    ],
)
def test_wrong_use_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_network_without_batch_statistics_trains_on_one_picture():
    network = build(regressor=replace(narrow_config().regressor, norm="layer")).train()
    assert torch.isfinite(network(pictures(1)).camera).all()


def test_a_topology_of_another_body_is_refused():
    topology = narrow_topology()
    sizes = replace(topology.sizes, hand=replace(topology.sizes.hand, vertices=(21, 7), body="other"))
    with pytest.raises(TopologyError, match=r"made for the hand other but was given small-hand: vertices \(21, 7\)"):
        Dice(narrow_config(sizes), topology)
