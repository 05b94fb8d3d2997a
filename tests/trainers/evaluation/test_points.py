"""Systems that work with 2D points: the fit, mean bodies laid onto the points, the points themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handface.model.bodies import load_body
from handface.model.network.config import preset
from handface.model.network.deploy.inference import prepare
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.pipeline.synthesis.make import SynthesisConfig, make_sample
from handface.pipeline.synthesis.scene.scene import SceneConfig
from handface.trainers.batch import Batch
from handface.trainers.data import DataConfig, DatasetConfig, make_pass
from handface.trainers.evaluation.config import BootstrapConfig, TableConfig
from handface.trainers.evaluation.facts import Facts, PhotoView, read_facts
from handface.trainers.evaluation.points import FittedSystem, PlacedMean, PointsThemselves, _detection
from handface.trainers.evaluation.run import collect, pair, tabulate
from handface.trainers.evaluation.systems import NetworkSystem
from handface.trainers.evaluation.truth import LabelMeshes

TABLE = TableConfig(by=(), bootstrap=BootstrapConfig(0))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory, write_tar: Any) -> Path:
    """Two scenes with one hand, a right and a left one."""
    path = tmp_path_factory.mktemp("scenes") / "scenes.tar"
    samples = []
    for left in (0.0, 1.0):
        config = SynthesisConfig(
            seed=4, size=128, scenes=SceneConfig(near_share=0, front_share=0, two_hands_share=0, left_share=left)
        )
        samples.append(make_sample(0, config))
    write_tar(path, samples)
    return path


@pytest.fixture(scope="module")
def batch(shard: Path) -> Batch:
    return next(_pass(shard))


def _pass(shard: Path) -> Any:
    sets = (DatasetConfig("scenes", (str(shard),)),)
    index = str(shard.parent / "index")
    return iter(make_pass(DataConfig(sets, 128, 2, shuffle="none", workers=0, index_folder=index)))


@pytest.fixture(scope="module")
def truth() -> LabelMeshes:
    return LabelMeshes(Topology.from_bodies().sizes)


@pytest.fixture(scope="module")
def network() -> NetworkSystem:
    torch.manual_seed(0)
    topology = Topology.from_bodies()
    model = Dice(preset("dice-nano", topology.sizes), topology).eval()
    return NetworkSystem(prepare(model), model.config, load_body("free-hand", "free"), load_body("free-head", "free"))


def test_the_fit_brings_a_network_that_knows_nothing_onto_the_points(
    shard: Path, truth: LabelMeshes, network: NetworkSystem
) -> None:
    facts = {name: replace(fact, detected=True) for name, fact in read_facts({"scenes": [str(shard)]}).items()}
    fitted = FittedSystem(network, facts, ["scenes"])
    rows = collect({"bare": network, "fitted": fitted}, _pass(shard), truth, None, facts, datasets=["scenes"])
    bare, moved = tabulate(rows, facts, TABLE)
    assert moved.frames["detector_reprojection"].value < 4 < bare.frames["detector_reprojection"].value
    assert moved.frames["pve_head"].value < bare.frames["pve_head"].value
    assert 0 <= moved.frames["face_precision"].value <= 1


def test_points_that_say_too_little_leave_the_networks_answer(batch: Batch, truth: LabelMeshes, network: Any) -> None:
    blind = replace(batch, points=torch.zeros_like(batch.points))
    fitted = FittedSystem(network, {}, ["scenes"])(blind, truth(blind)).meshes
    own = network(blind, truth(blind)).meshes
    torch.testing.assert_close(fitted.pixels, own.pixels, atol=0.05, rtol=1e-3)
    centre = own.head.mean(1, keepdim=True)
    torch.testing.assert_close(fitted.hand, own.hand - centre, atol=1e-4, rtol=1e-3)


def test_the_fit_knows_how_the_crop_lies_in_its_photo(batch: Batch, network: NetworkSystem) -> None:
    view = PhotoView(2.5, (0.25, 0.75))
    right, left = (Facts("scenes", "a", side, view=view) for side in ("right", "left"))
    fitted = FittedSystem(network, {}, ["scenes"])
    points = _detection(batch.points[0].numpy())
    seen, mirrored, unknown = (fitted._picture(points, fact, 128) for fact in (right, left, None))
    assert seen.centre == (31.5, 95.5) and mirrored.centre == (95.5, 95.5)
    assert unknown.centre == (63.5, 63.5) and seen.focal == mirrored.focal
    assert seen.focal / unknown.focal == pytest.approx(2.5**0.5)  # halfway between the photo's and the face's


def test_facts_say_who_placed_the_points_and_where_the_crop_was(
    tmp_path: Path, make_sample: Any, write_tar: Any, shard: Path
) -> None:
    sample = make_sample(3, side=32)
    crop = replace(
        sample.meta.crop, affine=((2.0, 0, 100.0), (0, 2.0, 50.0), (0, 0, 1.0)), original_width=800, original_height=600
    )
    write_tar(tmp_path / "a.tar", [replace(sample, meta=replace(sample.meta, crop=crop))])
    (fact,) = read_facts({"a": [str(tmp_path)]}).values()
    assert fact.view is not None and fact.view.longer == pytest.approx(800 / (2 * crop.size))
    x, y = ((399.5 - 100) / 2 + 0.5) / crop.size, ((299.5 - 50) / 2 + 0.5) / crop.size
    assert fact.view.centre == pytest.approx((x, y))
    assert fact.detected == any(one.task.endswith("_keypoints") for one in sample.meta.annotators)
    assert not any(one.detected for one in read_facts({"scenes": [str(shard)]}).values())


def test_mean_bodies_lie_on_points_that_are_theirs(batch: Batch, truth: LabelMeshes) -> None:
    placed = PlacedMean(truth.hand, truth.head, {}, ["scenes"])
    hand, head = truth.hand(), truth.head()
    angle, scale = 0.4, torch.tensor([300.0, 420.0])
    turn = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], dtype=torch.float32)
    points = batch.points.clone()
    for rows, body in ((slice(0, 68), head), (slice(68, 89), hand)):
        flat = body.keypoints[0, :, :2] * torch.tensor([1.0, -1.0])
        points[:, rows, :2] = scale[:, None, None] * (flat @ turn.T) + torch.tensor([40.0, 50.0])
        points[:, rows, 2] = 1
    points[:, [3, 70]] = torch.tensor([-500.0, 900.0, 0.0])  # of no confidence
    found = placed(replace(batch, points=points), truth(batch))
    answer = found.meshes
    assert found.says is not None and found.says("pve") and not found.says("face_tp")
    kept = [k for k in range(89) if k not in (3, 70)]
    torch.testing.assert_close(answer.pixels[:, kept], points[:, kept, :2], atol=1e-2, rtol=1e-4)
    size = (head.vertices[0, 0] - head.vertices[0, 100]).norm()
    torch.testing.assert_close(
        (answer.head[:, 0] - answer.head[:, 100]).norm(dim=1), size.expand(2), atol=1e-4, rtol=1e-3
    )


def test_what_is_laid_onto_labelled_points_is_no_answer(batch: Batch, truth: LabelMeshes, network: Any) -> None:
    moved = batch.points.clone()
    moved[1] += torch.tensor([2.0, 0.0, 0.0])
    half = replace(batch, points=moved)
    names = [f"scenes/{key}" for key in batch.keys]
    for facts, expected in (
        ({}, [False, True]),
        ({names[0]: Facts("scenes", "a", "right", detected=True)}, [True, True]),
    ):
        for system in (
            FittedSystem(network, facts, ["scenes"]),
            PlacedMean(truth.hand, truth.head, facts, ["scenes"]),
        ):
            known = system(half, truth(half)).known
            assert known is not None and known.tolist() == expected
    rows = collect({"all": network, "some": PointsThemselves()}, iter([half]), truth, None, {}, datasets=["scenes"])
    table = {row.system: row.samples for row in tabulate(rows, {}, TABLE)}
    assert table == {"all": 2, "some": 1}
    (difference,) = pair(rows, {}, TABLE.bootstrap)
    assert difference.samples == 1
    mine = rows["all"].columns["reprojection"] - rows["some"].columns["reprojection"]
    answered = rows["some"].columns["reprojection_known"] > 0
    assert difference.estimates["reprojection"].value == pytest.approx(100 * float(mine[answered].sum()))


def test_the_points_themselves_are_measured_in_the_picture_alone(batch: Batch, truth: LabelMeshes) -> None:
    def shifted() -> Any:
        points = batch.points + torch.tensor([3.0, 4.0, 0.0])
        yield replace(batch, points=points)

    rows = collect({"points": PointsThemselves()}, shifted(), truth, None, {})
    (row,) = tabulate(rows, {}, TABLE)
    assert row.frames.keys() == {"reprojection", "reprojection_face", "reprojection_hand"}
    face = batch.face_keypoints_2d[..., :2]
    side = (face.amax(1) - face.amin(1)).prod(1).sqrt()
    assert row.frames["reprojection"].value == pytest.approx(float((500 / side).mean()), rel=1e-3)
