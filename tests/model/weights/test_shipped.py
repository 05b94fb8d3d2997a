"""The networks that come with the package: whole, of half precision, as their cards say, and dice-m lies on the points it is given."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from safetensors import safe_open

from handface.model.bodies import load_body
from handface.model.network.config import HAND_AT_FACE, preset
from handface.model.weights.named import EMBEDDED, load_network

FACING = torch.tensor([[np.pi, 0.0, 0.0]], dtype=torch.float32)


@pytest.mark.parametrize("name", ["dice-m", "dice-nano"])
def test_a_shipped_network_is_trained_small_and_its_presets(name):
    loaded = load_network(name)
    shipped, expected = loaded.network.config, preset(name, loaded.network.config.sizes)
    assert loaded.trained and loaded.note and not loaded.network.training
    assert (shipped.backbone, shipped.mesh, shipped.points, shipped.placement, shipped.camera, shipped.nearness) == (
        expected.backbone, expected.mesh, expected.points, expected.placement, expected.camera, expected.nearness,
    )  # fmt: skip
    assert all(torch.isfinite(value).all() for value in loaded.network.state_dict().values())
    file = EMBEDDED / name / "model.safetensors"
    assert file.stat().st_size < 20e6
    with safe_open(file, framework="pt") as tensors:
        assert tensors.get_tensor("mix.weight").dtype == torch.float16


def test_the_card_of_dice_m_has_the_weights_hash_and_the_backbones_licence():
    folder = EMBEDDED / "dice-m"
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text()
    assert "Redistribution and use" in (folder / "LICENCE-mobilenet_v2.txt").read_text()


def points_of_people(count: int) -> torch.Tensor:
    """(N, 89, 3) points of mean people of different places and sizes in a picture of 160 pixels, the hand before the chin."""
    head = load_body("free-head", "free")(global_orient=FACING).keypoints[0]
    hand = load_body("free-hand", "free")(global_orient=torch.tensor([HAND_AT_FACE])).keypoints[0]
    hand = hand - hand.mean(0) + head[8] + torch.tensor([0.0, 0.02, -0.03])
    flat = torch.cat([head, hand])[:, :2]
    flat = flat - (flat.amax(0) + flat.amin(0)) / 2
    zoom = torch.linspace(0.9, 1.1, count)[:, None, None] * 110 / (flat.amax(0) - flat.amin(0)).max()
    places = zoom * flat + 80 + torch.linspace(-6, 6, count)[:, None, None]
    return torch.cat([places, torch.ones(count, 89, 1)], 2)


def test_dice_m_lies_on_the_points_it_is_given_and_answers_without():
    network, points = load_network("dice-m").network, points_of_people(4)
    grey = torch.full((4, 3, 160, 160), 0.5)
    with torch.no_grad():
        found, blind = network(grey, points=points), network(grey)
    face = (points[:, :68, :2].amax(1) - points[:, :68, :2].amin(1)).amax(1)[:, None]
    head = (found.project(found.head.keypoints) - points[:, :68, :2]).norm(dim=2) / face
    hand = (found.project(found.hand.keypoints) - points[:, 68:, :2]).norm(dim=2) / face
    assert head.mean() < 0.06 and hand.mean() < 0.12
    assert all(torch.isfinite(value).all() for value in blind.flatten().values())
