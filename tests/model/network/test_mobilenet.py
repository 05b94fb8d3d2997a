"""MobileNetV2: torchvision's names and shapes, features that stay frozen, weights that do not fit."""

from __future__ import annotations

import pytest
import torch

from handface.model.network.config import MobileNetConfig
from handface.model.network.mobilenet import MobileNet
from handface.model.weights.imagenet import load_imagenet
from handface.model.weights.unpickle import WeightsError

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def torchvision_layout() -> dict[str, tuple[int, ...]]:
    """Keys and shapes of torchvision's mobilenet_v2, from the paper's table and its way of naming."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out: int, inputs: int, kernel: int) -> None:
        shapes[f"{name}.weight"] = (out, inputs, kernel, kernel)

    def norm(name: str, channels: int) -> None:
        shapes.update({f"{name}.{key}": () if key == NORM[-1] else (channels,) for key in NORM})

    def conv_norm(name: str, out: int, inputs: int, kernel: int) -> None:
        conv(f"{name}.0", out, inputs, kernel)
        norm(f"{name}.1", out)

    conv_norm("features.0", 32, 3, 3)
    channels, index = 32, 1
    for t, c, n in ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1)):
        for _ in range(n):
            block, part, hidden = f"features.{index}.conv", 0, channels * t
            if t > 1:
                conv_norm(f"{block}.0", hidden, channels, 1)
                part = 1
            conv_norm(f"{block}.{part}", hidden, 1, 3)
            conv(f"{block}.{part + 1}", c, hidden, 1)
            norm(f"{block}.{part + 2}", c)
            channels, index = c, index + 1
    conv_norm("features.18", 1280, channels, 1)
    return shapes | {"classifier.1.weight": (1000, 1280), "classifier.1.bias": (1000,)}


def imagenet_file(folder, **changes):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.rand(shape, generator=generator) if shape else torch.tensor(1)
        for name, shape in torchvision_layout().items()
    }
    torch.save(tensors | changes, folder / "mobilenet.pth")
    return folder / "mobilenet.pth", tensors


def test_names_and_shapes_are_torchvisions(tmp_path):
    file, tensors = imagenet_file(tmp_path)
    network = MobileNet(MobileNetConfig(features=8))
    torch.nn.init.ones_(network.narrow.weight)
    narrow = network.narrow.weight.clone()
    report = load_imagenet(network, file)
    assert report.dropped == ("classifier.1.bias", "classifier.1.weight") and len(report.used) == 312
    assert torch.equal(network.layers[4].conv[0][0].weight, tensors["features.4.conv.0.0.weight"])
    assert torch.equal(network.layers[18][1].running_var, tensors["features.18.1.running_var"])
    assert torch.equal(network.narrow.weight, narrow)


def test_files_that_do_not_fit_are_refused_and_change_nothing(tmp_path):
    network = MobileNet(MobileNetConfig(features=8))
    before = network.layers[0][0].weight.clone()
    file, _ = imagenet_file(
        tmp_path, **{"features.0.0.weight": torch.zeros(16, 3, 3, 3), "features.19.weight": torch.zeros(1)}
    )
    with pytest.raises(WeightsError, match="does not hold this MobileNet"):
        load_imagenet(network, file)
    assert torch.equal(network.layers[0][0].weight, before)


def test_frozen_features_and_their_statistics_stay_while_the_rest_learns():
    torch.manual_seed(0)
    network = MobileNet(MobileNetConfig(features=8)).train()
    before = {name: value.clone() for name, value in network.layers.state_dict().items()}
    network(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in network.layers.state_dict().items())
    assert all(parameter.grad is None for parameter in network.layers.parameters())
    assert network.narrow.weight.grad is not None and network.narrow.weight.grad.abs().sum() > 0
    tuned = MobileNet(MobileNetConfig(features=8, frozen=False)).train()
    tuned(torch.rand(2, 3, 64, 64)).sum().backward()
    assert all(parameter.grad is not None for parameter in tuned.layers.parameters())


def test_one_cell_for_each_32_pixels():
    network = MobileNet(MobileNetConfig(features=8)).eval()
    assert network(torch.rand(1, 3, 160, 96)).shape == (1, 8, 5, 3)
