"""HRNet: the plain one's function, the original key names, ImageNet files in both namings."""

from __future__ import annotations

import pytest
import torch

from handface.model.network.config import HRNET_W18_SMALL, HRNetConfig
from handface.model.network.hrnet import HRNet
from handface.model.weights.imagenet import load_imagenet
from handface.model.weights.released import _backbone, _Shapes
from handface.model.weights.unpickle import WeightsError
from tests.model.narrow import BACKBONE
from tests.model.reference_dice import HighResolutionNet, randomise
from tests.model.weights.test_weights import NARROW


@pytest.fixture
def plain() -> HighResolutionNet:
    return randomise(HighResolutionNet(NARROW), 4)  # type: ignore[return-value]


def ours() -> HRNet:
    config = _backbone(
        _Shapes({f"backbone.{key}": value for key, value in HighResolutionNet(NARROW).state_dict().items()})
    )
    return HRNet(config).eval()


@pytest.mark.parametrize("naming", ["original", "parallel", "wrapped", "backbone", "timm", "timm safetensors"])
def test_imagenet_files_load_and_give_the_plain_features(plain, tmp_path, naming):
    state = {key: value for key, value in plain.state_dict().items() if not key.endswith("num_batches_tracked")}
    path = tmp_path / "hrnet.pth"
    if naming == "parallel":
        state = {f"module.{key}": value for key, value in state.items()}
    if naming == "backbone":
        state = {f"model.backbone.{key}": value for key, value in state.items()}
    if naming.startswith("timm"):
        state = {key.replace("classifier.", "fc."): value for key, value in plain.state_dict().items()}
    if naming == "timm safetensors":
        from safetensors.torch import save_file

        path = tmp_path / "model.safetensors"
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if naming == "wrapped" else state, path)
    network = ours()
    report = load_imagenet(network, path)
    assert len(report.dropped) == 2 and not report.filled
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(image), plain(image), rtol=1e-5, atol=1e-5)


def test_timm_variants_without_head_biases_get_zeros(plain, tmp_path):
    state = {
        key: value
        for key, value in plain.state_dict().items()
        if not (key.startswith(("downsamp", "final")) and key.endswith(".0.bias"))
    }
    torch.save(state, tmp_path / "ssld.pth")
    network = ours()
    report = load_imagenet(network, tmp_path / "ssld.pth")
    assert set(report.filled) == {*(f"downsamp_modules.{k}.0.bias" for k in range(3)), "final_layer.0.bias"}
    assert (network.final_layer[0].bias == 0).all()


def test_a_wrong_file_changes_nothing_and_names_the_keys(plain, tmp_path):
    network = ours()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = plain.state_dict()
    state["conv9.weight"] = torch.ones(1)
    state["conv2.weight"] = torch.ones(3)
    del state["layer1.0.conv1.weight"]
    torch.save(state, tmp_path / "wrong.pth")
    message = r"1 keys missing: layer1\.0\.conv1\.weight; 1 keys unknown: conv9\.weight; 1 keys of another shape: conv2\.weight \(3,\)"
    with pytest.raises(WeightsError, match=message):
        load_imagenet(network, tmp_path / "wrong.pth")
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(WeightsError, match="not a plain state dict"):
        load_imagenet(network, tmp_path / "junk.pth")
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="not a state dict"):
        load_imagenet(network, tmp_path / "list.pth")


@pytest.mark.parametrize(
    ("config", "parameters"), [(HRNetConfig(), 128_059_944 - 2_049_000), (HRNET_W18_SMALL, 15_597_464 - 2_049_000)]
)
def test_parameter_counts_are_the_published_ones(config, parameters):
    with torch.device("meta"):
        network = HRNet(config)
    assert sum(value.numel() for value in network.parameters()) == parameters


def test_feature_map_is_one_thirty_second():
    with torch.no_grad():
        assert HRNet(BACKBONE).eval()(torch.zeros(1, 3, 96, 64)).shape == (1, 12, 3, 2)
