"""The detector's points as feature cells: what they change, what they must not, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from handface.model.bodies.names import FACE_KEYPOINTS, KEYPOINTS
from handface.model.network.config import PointsConfig, preset
from handface.model.network.deploy.export import example, export_onnx
from handface.model.network.deploy.fold import fold
from handface.model.network.dice import Dice
from handface.model.network.points import PointCells, describe
from tests.model.narrow import narrow_config, narrow_topology

CELLS = torch.zeros(3, 4, 16)
CONFIG = PointsConfig(cells=2, hidden=32)


def reader() -> PointCells:
    torch.manual_seed(0)
    return PointCells(16, 64, CONFIG).eval()


def some_points(batch: int = 3, seed: int = 1) -> torch.Tensor:
    points = torch.rand(batch, KEYPOINTS, 3, generator=torch.Generator().manual_seed(seed)) * 64
    points[..., 2] = 1
    return points


def network() -> Dice:
    torch.manual_seed(0)
    base = narrow_config()
    camera = replace(base.camera, read="cells", hidden=8)
    return Dice(replace(base, points=CONFIG, camera=camera), narrow_topology()).eval()


def test_no_points_are_points_of_no_confidence_wherever_they_are():
    read, points = reader(), some_points()
    points[..., 2] = 0
    assert read(points, CELLS).shape == (3, 2, 16)
    torch.testing.assert_close(read(points, CELLS), read(None, CELLS))
    points[..., :2] = torch.nan
    torch.testing.assert_close(read(points, CELLS), read(None, CELLS))


def test_a_picture_does_not_depend_on_the_others_of_its_batch():
    model, points = network(), some_points()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    together = model(images, points=points).flatten()
    alone = model(images[1:2], points=points[1:2]).flatten()
    for name, value in alone.items():
        torch.testing.assert_close(together[name][1:2], value, rtol=1e-4, atol=1e-5)


def test_points_change_the_answer_and_the_camera_comes_from_the_cells():
    model = network()
    images = torch.zeros(2, 3, 64, 64)
    with torch.no_grad():
        one, other = model(images, points=some_points(2)), model(images)
    assert not torch.allclose(one.camera, other.camera, atol=1e-7)
    assert torch.isfinite(one.camera).all() and (one.camera[:, 0] >= 0).all()


def test_where_there_are_points_the_picture_moves_no_mesh_but_may_say_what_touches():
    model, points = network(), some_points(2)
    one, other = (torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in (3, 4))
    half = points.clone()
    half[:, FACE_KEYPOINTS:, 2] = 0  # a face without a hand

    def answers(points: torch.Tensor | None) -> list[dict[str, torch.Tensor]]:
        with torch.no_grad():
            return [model(images, points=points).flatten() for images in (one, other)]

    first, second = answers(points)
    same = {name for name in first if torch.equal(first[name], second[name])}
    placed = {
        name for name in first if "vertices" in name or "keypoints" in name or "orient" in name or name == "camera"
    }
    assert placed and placed <= same and "presence_logit" not in same
    for given in (half, None):
        first, second = answers(given)
        assert not torch.equal(first["camera"], second["camera"])


def test_shapes_that_are_no_points_are_refused():
    with pytest.raises(ValueError, match=r"points have shape \(3, 88, 3\), expected \(3, 89, 3\)"):
        reader()(torch.zeros(3, 88, 3), CELLS)
    with pytest.raises(ValueError, match=r"expected \(3, 89, 3\)"):
        reader()(torch.zeros(2, KEYPOINTS, 3), CELLS)


def test_how_the_hand_is_bent_is_told_whatever_its_place_and_size():
    places, known = some_points()[..., :2] / 32 - 1, torch.ones(3, KEYPOINTS, 1)
    same = slice(KEYPOINTS * 3, KEYPOINTS * 5 + 2 * 21)  # about the face, and about the hand
    moved = describe(places * 0.4 + torch.tensor([0.3, -0.2]), known)
    torch.testing.assert_close(moved[:, same], describe(places, known)[:, same], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(moved[:, : same.start], describe(places, known)[:, : same.start])


def test_training_moves_points_and_loses_some_and_says_nothing_of_lost_ones():
    read = reader().train()
    places, known = torch.zeros(4000, KEYPOINTS, 2), torch.ones(4000, KEYPOINTS, 1)
    torch.manual_seed(0)
    moved, left = read._disturb(places, known)
    assert (moved[left[..., 0] == 0] == 0).all()
    lost_face, lost_hand = 1 - float(left[:, 0, 0].mean()), 1 - float(left[:, FACE_KEYPOINTS, 0].mean())
    assert lost_face == pytest.approx(0.19, abs=0.03) and lost_hand == pytest.approx(0.19, abs=0.03)
    off = moved.norm(dim=2)
    face = float(off[:, :FACE_KEYPOINTS][left[:, :FACE_KEYPOINTS, 0] > 0].mean())
    hand = float(off[:, FACE_KEYPOINTS:][left[:, FACE_KEYPOINTS:, 0] > 0].mean())
    # two normal numbers, each itself and all together: mean length sqrt(pi / 2) sqrt(2) of the deviation
    assert hand == pytest.approx(CONFIG.jitter * 3.14159**0.5, rel=0.05)
    assert face == pytest.approx(CONFIG.face * hand, rel=0.05)


def test_export_and_folding_keep_the_points(tmp_path):
    model = network()
    with torch.no_grad():
        images, points = example(model, 3)
        expected, found = model(images, points=points).flatten(), fold(model)(images, points=points).flatten()
    for name in found.keys() & expected.keys():
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4)
    assert max(export_onnx(model, tmp_path / "points.onnx").values()) < 1e-4  # also checks another batch size


def test_the_preset_looks_at_points_and_the_others_do_not():
    assert preset("dice-m").points is not None and preset("dice-m").camera.read == "cells"
    assert all(preset(name).points is None for name in ("dice-nano", "dice-s", "dice-w64"))
