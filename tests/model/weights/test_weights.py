"""The released checkpoint's converter against the plainly written released network, and what it refuses."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from handface.model.network.config import DiceConfig, preset
from handface.model.network.dice import Dice
from handface.model.network.output import DiceOutput
from handface.model.network.topology import PartTopology, Topology, TopologyError
from handface.model.weights.checkpoint import load_dice, read_config, save_dice, save_tensors
from handface.model.weights.convert import convert, read_released, translate
from handface.model.weights.released import canonical, infer_config
from handface.model.weights.unfilled import Unfilled
from handface.model.weights.unpickle import WeightsError, read_pickled_module
from tests.model.narrow import narrow_config, narrow_topology
from tests.model.reference_dice import NETWORK, Spec, randomise, save_released

NARROW = Spec(
    hand=(40, 11),
    head=(90, 37, 17),
    stem=8,
    planes=4,
    stage1_blocks=2,
    modules=(1, 2, 1),
    blocks=2,
    channels=(8, 12, 16, 20),
    head_planes=(2, 4, 6, 8),
    features=24,
    size=64,
    inputs=(27, 16, 12),
    widths=(24, 16, 8),
    outs=(16, 12, 3),
    deform_inputs=(16, 12),
    deform_widths=(16, 8),
    deform_outs=(12, 4),
    layers=2,
    heads=2,
    hidden=20,
    positions=140,
    vocabulary=30,
    camera=10,
    presence=(12, 6),
    regressor=14,
)


def topology_of(config: DiceConfig, seed: int = 0) -> Topology:
    rng = np.random.default_rng(seed)

    def part(sizes):
        return PartTopology(
            sizes, rng.normal(0.3, 0.1, (sizes.keypoints, 3)), rng.normal(0.2, 0.1, (sizes.vertices[-1], 3))
        )

    return Topology(part(config.sizes.hand), part(config.sizes.head))


def released_outputs(
    network: nn.Module, topology: Topology, images: torch.Tensor, mask: torch.Tensor | None = None, gate: bool = True
) -> dict[str, torch.Tensor]:
    """The 26 released outputs under our names. images: RGB in 0..1."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    bgr = (images[:, [2, 1, 0]] - mean[:, None, None]) / std[:, None, None]

    def batch(points):
        return torch.from_numpy(points).float().expand(len(images), -1, -1)

    keep = None if mask is None else 1 - mask.float().expand(len(images), -1)[..., None]
    hand, head = topology.hand, topology.head
    with torch.no_grad():
        values = network(
            bgr, batch(hand.keypoints), batch(head.keypoints), batch(hand.coarse), batch(head.coarse), keep, gate
        )
    raw = values[0]
    names = (
        *("camera", "hand_keypoints", "head_keypoints", "hand_vertices_1", "hand_vertices_0"),
        *("head_vertices_2", "head_vertices_1", "head_vertices_0", "hand_contact_1", "hand_contact_0"),
        *("head_contact_2", "head_contact_1", "head_contact_0"),
        *("hand_betas", "hand_transl", "hand_global_orient", "hand_pose"),
        *("head_betas", "head_expression", "head_pose", "head_global_orient", "head_transl"),
        *("head_deformation_2", "head_deformation_1", "head_deformation_0", "presence"),
    )
    named = dict(zip(names, values, strict=True))
    named["camera"] = torch.cat([10 * raw[:, :1].abs(), raw[:, 1:]], 1)
    return {name: value[..., 0] if "contact" in name or name == "presence" else value for name, value in named.items()}


def our_outputs(output: DiceOutput) -> dict[str, torch.Tensor]:
    flat = output.flatten()
    named = {name: value for name, value in flat.items() if "logit" not in name and name != "camera_origin"}
    named |= {name.replace("_logits", ""): value.sigmoid() for name, value in flat.items() if "contact_logits" in name}
    return named | {"presence": output.presence}


def largest_difference(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    worst = 0.0
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        assert value.numel() == 1 or value.std() > 1e-4, f"{name} is dead, so equality would say nothing"
        worst = max(worst, ((ours[name] - value).abs().max() / value.abs().max().clamp(min=1)).item())
    return worst


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> tuple[nn.Module, Path]:
    torch.manual_seed(0)
    network = randomise(NETWORK(NARROW), 1)
    presence = released_outputs(network, topology_of(read_narrow()), some_images(), gate=False)["presence"]
    with torch.no_grad():  # pictures on both sides of the presence gate
        network.contact_classifier[0].bias -= presence.logit().sort().values[:2].mean()
    return network, save_released(network, tmp_path_factory.mktemp("released") / "model.bin")


@pytest.fixture
def images() -> torch.Tensor:
    return some_images()


def some_images() -> torch.Tensor:
    return torch.rand(3, 3, NARROW.size, NARROW.size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("gate", [False, True])
def test_every_output_of_the_converted_network_equals_the_plain_one(released, images, tmp_path, gate):
    network, file = released
    topology = topology_of(read_released_config(file))
    convert(file, tmp_path / "dice", topology)
    ours = load_dice(tmp_path / "dice", topology)
    assert ours.config.mesh[0].heads == 2 and ours.config.norm_eps == 1e-12 and ours.config.input.channel_order == "bgr"
    ours.config = replace(ours.config, presence_gate=gate)
    with torch.no_grad():
        found = our_outputs(ours(images))
    expected = released_outputs(network, topology, images, gate=gate)
    assert largest_difference(found, expected) < 1e-5
    if gate:  # the batch holds pictures on both sides of the gate
        closed = found["presence"] <= 0.5
        assert closed.any() and not closed.all()
        assert (found["head_deformation_0"][closed] == 0).all() and (found["head_deformation_1"][closed] != 0).any()


def test_masked_tokens_equal_the_plain_ones(released, images, tmp_path):
    network, file = released
    topology = topology_of(read_released_config(file))
    convert(file, tmp_path / "dice", topology)
    ours = load_dice(tmp_path / "dice")
    mask = torch.rand(ours.config.sizes.tokens, generator=torch.Generator().manual_seed(3)) < 0.3
    with torch.no_grad():
        found, unmasked = our_outputs(ours(images, mask)), our_outputs(ours(images))
    assert largest_difference(found, released_outputs(network, topology, images, mask)) < 1e-5
    assert not torch.allclose(found["head_vertices_0"], unmasked["head_vertices_0"], atol=1e-3)


def read_released_config(file: Path) -> DiceConfig:
    return infer_config(*read_released(file))


def test_the_report_accounts_for_every_parameter(released, tmp_path):
    network, file = released
    report = convert(file, tmp_path / "dice")
    total = sum(value.numel() for value in network.parameters())
    assert report.parameters_used + report.parameters_dropped == total
    state = network.state_dict()
    assert set(report.used) | {key for key in report.dropped if "[" not in key} == set(state)
    assert "backbone.classifier.weight" in report.dropped
    assert f"trans_encoder.layer1.bert.position_embeddings.weight[{NARROW.tokens}:]" in report.dropped
    assert json.loads((tmp_path / "dice/import_report.json").read_text())["parameters_used"] == report.parameters_used
    with pytest.raises(WeightsError, match="no template"):
        load_dice(tmp_path / "dice")


@pytest.mark.parametrize("spelling", ["layers", "numbers", "parallel", "safetensors"])
def test_a_plain_state_dict_gives_the_same_weights(released, tmp_path, spelling):
    network, file = released
    state = {key: value.clone() for key, value in network.state_dict().items()}
    if spelling == "numbers":
        state = {key.replace("encoder.layer", "encoder.@"): value for key, value in state.items()}
        state = {
            (f"{k.split('@')[0]}{int(k.split('@')[1][0]) - 1}{k.split('@')[1][1:]}" if k.count("@") == 1 else k): v
            for k, v in {
                key.replace("bert.encoder.@", "bert.encoder.layer"): value for key, value in state.items()
            }.items()
        }
        assert "trans_encoder.0.cls_head.weight" in state
    if spelling == "parallel":
        state = {f"module.{key}": value for key, value in state.items()}
    path = tmp_path / ("state.safetensors" if spelling == "safetensors" else "state.bin")
    if spelling == "safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    config = read_released_config(file)
    convert(file, tmp_path / "pickled", topology_of(config))
    convert(path, tmp_path / "plain", topology_of(config), config)
    one, two = load_dice(tmp_path / "pickled").state_dict(), load_dice(tmp_path / "plain").state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def _without(key):
    return lambda state: state.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("cam_param_fc3.bias"), r"1 keys missing: cam_param_fc3\.bias"),
        (_without("conv_learn_tokens.weight"), r"key 'conv_learn_tokens\.weight' is missing"),
        (lambda s: s.update(extra=torch.ones(2)), r"1 keys belong to no part of the network: extra"),
        (
            lambda s: s.update({"feat_downsampler.bias": torch.ones(5)}),
            r"1 keys of another shape .* interaction_net\.reduce\.bias \(5,\) instead of \(16,\)",
        ),
        (
            lambda s: s.update({"hand_param_regressor.regressor.3.bias": torch.ones(60)}),
            "cannot become hand_parameters",
        ),
        (
            lambda s: s.update({"hand_param_regressor.regressor.0.fc_block.0.weight": torch.ones(14, 100)}),
            "reads 100 numbers",
        ),
    ],
)
def test_a_wrong_checkpoint_is_refused_by_key(released, tmp_path, change, message):
    state = dict(released[0].state_dict())
    change(state)
    torch.save(state, tmp_path / "wrong.bin")
    with pytest.raises(WeightsError, match=message):
        convert(tmp_path / "wrong.bin", tmp_path / "dice")
    assert not (tmp_path / "dice").exists()


def test_wrong_bodies_are_refused(released, tmp_path):
    config = read_released_config(released[1])
    other = replace(
        config, sizes=replace(config.sizes, head=replace(config.sizes.head, vertices=(91, 37, 17), body="big"))
    )
    with pytest.raises(TopologyError, match=r"head FLAME .* big: vertices \(90, 37, 17\) != \(91, 37, 17\)"):
        convert(released[1], tmp_path / "dice", topology_of(other))
    convert(released[1], tmp_path / "dice", topology_of(config))
    with pytest.raises(TopologyError, match="another rest shape"):
        load_dice(tmp_path / "dice", topology_of(config, seed=1))


class _Hostile:
    def __reduce__(self):
        return (os.system, ("touch hostile-was-here",))


def _network_with_a_bomb() -> nn.Module:
    network = nn.Linear(2, 2)
    network.extra = _Hostile()
    return network


@pytest.mark.parametrize("bomb", [_Hostile, _network_with_a_bomb])
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path, monkeypatch, bomb):
    monkeypatch.chdir(tmp_path)
    torch.save(bomb(), tmp_path / "model.bin")
    with pytest.raises(WeightsError, match=r"refused, because the file asks for '(posix|os|nt)\.system'"):
        convert(tmp_path / "model.bin", tmp_path / "dice")
    assert not (tmp_path / "hostile-was-here").exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n(cbuiltins\nset\nS'x'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x011\x85R.",
        b"ctorch.hub\nload\n(S'x'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        pickle.dumps([1, 2]),
        b"",
        b"\x80\x02}q",
    ],
)
def test_pickle_streams_that_are_no_network(tmp_path, stream):
    with zipfile.ZipFile(tmp_path / "x.bin", "w") as archive:
        archive.writestr("archive/data.pkl", stream)
    with pytest.raises(WeightsError, match=r"x\.bin"):
        read_pickled_module(tmp_path / "x.bin")


def test_broken_archives(released, tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        convert(tmp_path / "absent.bin", tmp_path / "dice")
    (tmp_path / "text.bin").write_text("hello")
    with pytest.raises(WeightsError, match=r"not a file of torch\.save"):
        convert(tmp_path / "text.bin", tmp_path / "dice")
    (tmp_path / "cut.bin").write_bytes(released[1].read_bytes()[:-5000])
    with pytest.raises(WeightsError, match="copy it again"):
        convert(tmp_path / "cut.bin", tmp_path / "dice")
    with zipfile.ZipFile(tmp_path / "squeezed.bin", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02." * 1000)
    with pytest.raises(WeightsError, match="compressed members"):
        read_pickled_module(tmp_path / "squeezed.bin")


def test_a_checkpoint_round_trip_and_its_errors(tmp_path):
    config = replace(read_narrow(), preset="narrow")
    torch.manual_seed(3)
    model = Dice(config, topology_of(config)).eval()
    save_dice(model, tmp_path / "c")
    again = load_dice(tmp_path / "c", topology_of(config))
    assert read_config(tmp_path / "c") == config and again.training is False
    images = torch.rand(2, 3, NARROW.size, NARROW.size)
    with torch.no_grad():
        one, two = model(images).flatten(), again(images).flatten()
    assert all(torch.equal(one[key], two[key]) for key in one)

    wider = replace(config, interaction_in=99)
    (tmp_path / "c/config.json").write_text(wider.to_json())
    with pytest.raises(WeightsError, match=r"of another shape: interaction_net\.blocks\.0\.embed\.weight \(16, 16\)"):
        load_dice(tmp_path / "c")
    (tmp_path / "c/config.json").write_text(config.to_json().replace('"size": 64', '"size": "big"'))
    with pytest.raises(WeightsError, match=r"input\.size"):
        load_dice(tmp_path / "c")
    with pytest.raises(WeightsError, match=r"no config\.json"):
        load_dice(tmp_path)
    (tmp_path / "c/config.json").write_text(config.to_json())
    (tmp_path / "c/model.safetensors").write_bytes(b"junk" * 10)
    with pytest.raises(WeightsError, match="damaged"):
        load_dice(tmp_path / "c")


def read_narrow() -> DiceConfig:
    return infer_config(NETWORK(NARROW).state_dict())


@pytest.mark.slow
def test_the_released_dimensions_are_the_preset():
    with torch.device("meta"):
        state = NETWORK(Spec()).state_dict()
        assert infer_config(state) == preset("dice-w64")
        ours = Dice(preset("dice-w64"))
    assert sum(value.numel() for value in ours.parameters()) == 240_368_143
    dead_classifier = 2048 * 990 + 990  # the reference has 10 classes instead of 1000
    assert sum(value.numel() for key, value in state.items() if "running" not in key and "num_b" not in key) == (
        297_565_431 - dead_classifier
    )


@pytest.mark.slow
def test_the_full_size_network_equals_the_plain_one():
    torch.manual_seed(0)
    network = NETWORK(Spec(vocabulary=2)).eval()
    tensors = canonical(network.state_dict())
    config = infer_config(tensors)
    with Unfilled():
        ours = Dice(config)
    topology = topology_of(config)
    ours.load_state_dict(translate(tensors, config, "memory")[0] | {"template": ours.template}, strict=True)
    ours.template.copy_(torch.from_numpy(topology.template(centred=True)))
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = our_outputs(ours.eval()(images))
    assert largest_difference(found, released_outputs(network, topology, images)) < 1e-5


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path) -> None:
    model = Dice(narrow_config(), narrow_topology()).eval()
    whole = save_dice(model, tmp_path / "whole")
    half = save_tensors(model.state_dict(), model.config, tmp_path / "half", half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.7 * sizes[0]  # names and indices stay as they are
    loaded = load_dice(half)
    assert all(value.dtype != torch.float16 for value in loaded.state_dict().values())
    images = torch.rand(2, 3, 64, 64)
    expected, found = (network(images).flatten() for network in (model, loaded))
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 2e-3 * value.abs().max().clamp(min=1), name


@pytest.mark.parametrize("name", ["dice-nano", "dice-m", "dice-s"])
def test_a_network_for_weights_of_a_file_is_made_without_a_random_number(name: str) -> None:
    before, config = torch.get_rng_state(), preset(name)
    with Unfilled():
        bare = Dice(config)
    assert torch.equal(torch.get_rng_state(), before)
    made = Dice(config)
    assert not torch.equal(torch.get_rng_state(), before)
    assert {key: value.shape for key, value in bare.state_dict().items()} == {
        key: value.shape for key, value in made.state_dict().items()
    }
    # what no file holds is there
    held, others = made.state_dict().keys(), dict(made.named_buffers())
    assert others.keys() - held
    for key, value in bare.named_buffers():
        assert key in held or torch.equal(value, others[key])
