"""Evaluation: labels as meshes, baselines, rows that do not depend on batches, subsets, files, the page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from handface.model.bodies import DECAF, load_body
from handface.model.bodies.rotation import axis_angle_to_matrix, nearest_rotation
from handface.model.network.config import preset
from handface.model.network.deploy.inference import prepare
from handface.model.network.dice import Dice
from handface.model.network.topology import Topology
from handface.trainers.batch import Batch
from handface.trainers.data import DataConfig, DatasetConfig, make_pass
from handface.trainers.evaluation.config import TableConfig
from handface.trainers.evaluation.facts import Facts, name_samples, read_facts
from handface.trainers.evaluation.page import render_page
from handface.trainers.evaluation.pictures import choose, draw_cases
from handface.trainers.evaluation.run import collect, pair, tabulate
from handface.trainers.evaluation.speed import measure_speed
from handface.trainers.evaluation.systems import MeanPose, NetworkSystem, Oracle, fit_camera
from handface.trainers.evaluation.truth import LabelMeshes
from handface.trainers.evaluation.write import cell, chosen, markdown, write_results, write_samples
from handface.trainers.geometry import closed_faces
from handface.trainers.metrics import BY_NAME, BootstrapConfig, Estimate, Records, Surface, predicted_meshes
from tests.trainers.labelled import studio_samples

NO_INTERVALS = BootstrapConfig(0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, make_sample: Any, write_tar: Any) -> Path:
    folder = tmp_path_factory.mktemp("studio")
    write_tar(folder / "studio.tar", studio_samples(make_sample))
    return folder


@pytest.fixture(scope="module")
def topology() -> Topology:
    return Topology.from_bodies()


@pytest.fixture(scope="module")
def truth(topology: Topology) -> LabelMeshes:
    return LabelMeshes(topology.sizes)


def _pass(folder: Path, batch_size: int = 3, **changes: Any) -> Iterator[Batch]:
    sets = (DatasetConfig("studio", (str(folder / "studio.tar"),), **changes),)
    index = str(folder / "index")
    return iter(make_pass(DataConfig(sets, 128, batch_size, shuffle="none", workers=0, index_folder=index)))


@pytest.fixture(scope="module")
def batch(shards: Path) -> Batch:
    return next(_pass(shards, 6))


# --- labels as meshes ---


def test_deformation_is_added_in_the_heads_axes_before_it_turns(batch: Batch, truth: LabelMeshes) -> None:
    found = truth(batch)
    body = load_body("free-head")
    labels = batch.head
    still = body(labels.betas, labels.pose, expression=labels.expression)
    root = still.joints[:, :1]
    turn = axis_angle_to_matrix(labels.global_orient)
    pressed = still.vertices + batch.head_deformation - root
    expected = torch.einsum("bij,bvj->bvi", turn, pressed) + root + labels.transl[:, None]
    undeformed = body(labels.betas, labels.pose, labels.global_orient, labels.transl, labels.expression).vertices
    torch.testing.assert_close(found.deformed, expected - undeformed.mean(1, keepdim=True), atol=2e-6, rtol=0)
    assert found.deformation[0].norm(dim=-1).max() > 0.005 and found.deformation[2].abs().max() == 0
    assert found.presence.tolist() == [1, 1, 0, 1, 1, 0]
    assert found.keypoints.shape == (6, 89, 3) and found.hand.shape == (6, 1609, 3)


def test_heads_in_decafs_convention_beside_others(batch: Batch, truth: LabelMeshes) -> None:
    decaf = torch.tensor([True, False] * 3)
    mixed = truth(replace(batch, decaf_head=decaf))
    plain = truth(batch)
    torch.testing.assert_close(mixed.head[~decaf], plain.head[~decaf])
    labels = batch.head
    body = load_body("free-head", DECAF["head"])
    alone = body(labels.betas, labels.pose[:, :6], labels.global_orient, labels.transl, labels.expression)
    centred = alone.vertices - alone.vertices.mean(1, keepdim=True)
    torch.testing.assert_close(mixed.head[decaf], centred[decaf], atol=2e-6, rtol=0)
    assert (mixed.head[decaf] - plain.head[decaf]).norm(dim=-1).max() > 1e-3
    every = truth(replace(batch, decaf_head=torch.ones(6, dtype=torch.bool)))
    torch.testing.assert_close(every.head, centred, atol=2e-6, rtol=0)


# --- systems ---


def test_fit_camera_finds_the_camera() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2, 89, 3, generator=generator)
    pixels = 300 * points[..., :2] + torch.tensor([10.0, -20.0])
    labels = torch.cat([pixels, torch.ones(2, 89, 1)], -1)
    labels[0, 5] = torch.tensor([1e4, 1e4, 0.0])  # not a label
    labels[1, 2:, 2] = 0
    found = fit_camera(points, labels)
    assert found[0].tolist() == pytest.approx([300, 10, -20], rel=1e-4)
    assert found[1].isnan().all()  # two points are too few


def test_mean_rotation() -> None:
    turns = axis_angle_to_matrix(torch.tensor([[0.4, 0, 0], [-0.2, 0, 0], [0.0, 0.5, 0], [0, -0.5, 0]]))
    mean = nearest_rotation(turns.mean(0))
    assert torch.linalg.det(mean).item() == pytest.approx(1, abs=1e-6)
    half = nearest_rotation(turns[:2].mean(0))
    torch.testing.assert_close(half, axis_angle_to_matrix(torch.tensor([0.1, 0, 0])), atol=1e-6, rtol=0)


def test_the_mean_of_one_sample_is_that_sample(shards: Path, truth: LabelMeshes) -> None:
    one = next(_pass(shards, limit=1))
    mean, expected = MeanPose.of([one], truth).meshes, truth(one)
    origin = expected.head.mean(1, keepdim=True)
    torch.testing.assert_close(mean.head, expected.head - origin, atol=1e-5, rtol=0)
    torch.testing.assert_close(mean.hand, expected.hand - origin, atol=1e-5, rtol=0)
    torch.testing.assert_close(mean.keypoints, expected.keypoints - origin, atol=1e-5, rtol=0)
    torch.testing.assert_close(mean.deformation, expected.deformation)
    assert mean.pixels is not None and mean.pixels.shape == (1, 89, 2)


def test_the_mean_pose_needs_3d_labels(shards: Path, truth: LabelMeshes) -> None:
    with pytest.raises(ValueError, match="needs training samples with 3D labels"):
        MeanPose.of(_pass(shards, weak=True), truth)


@pytest.fixture(scope="module")
def network(topology: Topology) -> NetworkSystem:
    torch.manual_seed(0)
    model = Dice(preset("dice-nano", topology.sizes), topology).eval()
    with torch.no_grad():
        for parameter in model.interaction_net.parameters():
            parameter.mul_(0.05)  # dents of millimetres, as of a network that has begun to learn
    return NetworkSystem(prepare(model), model.config, load_body("free-hand", "free"), load_body("free-head", "free"))


def test_predicted_meshes_pose_the_bodies_and_project_them(batch: Batch, network: NetworkSystem) -> None:
    output = network.run(batch.images)
    meshes = predicted_meshes(output, network.hand, network.head)
    parameters = output.head.parameters._asdict()
    torch.testing.assert_close(meshes.head, network.head(**parameters).vertices)
    origin = meshes.head.mean(1)[:, None, :2]
    assert meshes.pixels is not None
    expected = output.camera[:, None, :1] * (meshes.keypoints[..., :2] - origin) + output.camera[:, None, 1:]
    torch.testing.assert_close(meshes.pixels, expected)
    direct = predicted_meshes(output, network.hand, network.head, "direct")
    torch.testing.assert_close(direct.head, output.head.vertices[0])
    assert direct.pixels is not None
    torch.testing.assert_close(direct.pixels[:, 68:], output.project(output.hand.keypoints), atol=1e-3, rtol=1e-4)
    world = predicted_meshes(output, network.hand, network.head, camera_origin="world")
    assert world.pixels is not None and (world.pixels - meshes.pixels).abs().max() > 0


# --- rows ---


@pytest.fixture(scope="module")
def results(shards: Path, truth: LabelMeshes, network: NetworkSystem) -> tuple[dict[str, Records], dict[str, Facts]]:
    mean = MeanPose.of(_pass(shards), truth)
    faces = truth.head.faces
    caps = torch.from_numpy(closed_faces(truth.head.arrays)[len(faces) :])
    facts = read_facts({"studio": [str(shards / "studio.tar")]})
    systems = {"network": network, "mean pose": mean, "oracle": Oracle()}
    seen: list[int] = []
    rows = collect(systems, _pass(shards, 4), truth, Surface(faces, caps), facts, seen.append, ["studio"])
    assert seen == [4, 2]
    return rows, facts


def test_the_labels_are_perfect_against_themselves(results: Any) -> None:
    rows = tabulate(results[0], results[1], TableConfig(by=(), bootstrap=NO_INTERVALS))
    values = {name: estimate.value for name, estimate in rows[2].frames.items()}
    for name in ("pve_same", "mpjpe_same", "pa_mpjpe", "deformation", "deformation_large", "detector_reprojection"):
        assert values[name] == pytest.approx(0, abs=1e-4), name
    assert 0 < values["pve"] < 0.1  # the paper's two origins differ by the mean deformation
    for name in ("face_f1", "hand_f1", "presence_f1", "presence_accuracy"):
        assert values[name] == 1
    network, mean = rows[0].frames, rows[1].frames
    assert network["pve"].value > mean["pve"].value > 3 and "pve_hand" in network
    assert "direct_pve" in network and "direct_pve" not in mean


@pytest.mark.parametrize("batch_size", [1, 5])
def test_rows_do_not_depend_on_batches(
    results: Any, shards: Path, truth: LabelMeshes, network: NetworkSystem, batch_size: int
) -> None:
    again = collect({"network": network}, _pass(shards, batch_size), truth, None, results[1], datasets=["studio"])[
        "network"
    ]
    whole = results[0]["network"]
    assert again.keys == whole.keys == tuple(sorted(whole.keys))
    for name, values in again.columns.items():
        np.testing.assert_allclose(values, whole.columns[name], rtol=1e-3, atol=1e-5, err_msg=name)
    assert "surfaces" not in again.columns  # plausibility was left out


def test_weak_sets_are_measured_by_pictures_alone(shards: Path, truth: LabelMeshes, network: NetworkSystem) -> None:
    key = next(_pass(shards)).keys
    facts = {k: Facts("wild", k, "right", contact=0.9 if i % 2 else 0.1) for i, k in enumerate(key)}
    rows = collect({"network": network}, _pass(shards, weak=True), truth, None, facts)
    (row,) = tabulate(rows, facts, TableConfig(by=(), bootstrap=NO_INTERVALS))
    assert {"reprojection", "depth_order", "agreement"} <= row.frames.keys()  # nobody says that a detector placed them
    assert not {"pve", "face_f1", "deformation"} & row.frames.keys()
    says = network(next(_pass(shards)), truth(next(_pass(shards)))).meshes.presence > 0.5
    # the mean of one picture that the filter takes for touching and of two others
    expected = 50 * (float(says[1]) + float(2 - says[::2].sum()) / 2)
    assert row.frames["agreement"].value == pytest.approx(expected, rel=1e-5)
    judged = [rows["network"].columns[f"judged_{kind}"].sum() for kind in ("touching", "apart")]
    assert judged == [1, 2]  # the others are not among the facts


def test_agreement_is_not_told_where_the_filter_calls_all_touching(
    shards: Path, truth: LabelMeshes, network: NetworkSystem
) -> None:
    facts = {key: Facts("wild", key, "right", contact=0.9) for key in next(_pass(shards)).keys}
    rows = collect({"network": network}, _pass(shards, weak=True), truth, None, facts)
    (row,) = tabulate(rows, facts, TableConfig(by=(), bootstrap=NO_INTERVALS))
    assert "agreement" not in row.frames


def test_errors_against_a_detectors_points_are_called_so(
    shards: Path, truth: LabelMeshes, network: NetworkSystem
) -> None:
    keys = [key for batch in _pass(shards) for key in batch.keys]
    facts = {key: Facts("mixed", key, "right", detected=i < 2) for i, key in enumerate(keys)}
    together = collect({"network": network}, _pass(shards), truth, None)["network"]
    apart = collect({"network": network}, _pass(shards), truth, None, facts)["network"]
    for name in ("reprojection", "reprojection_known", "reprojection_hand", "order_right", "order_pairs"):
        mine, theirs = apart.columns[name], apart.columns[f"detector_{name}"]
        np.testing.assert_allclose(mine + theirs, together.columns[name])
        detected = np.isin(apart.keys, keys[:2])
        assert not mine[detected].any() and not theirs[~detected].any()
    assert BY_NAME["detector_reprojection"].title == "2D error vs detector"


def test_facts_of_a_studio_and_of_photos(shards: Path, tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    found = list(read_facts({"studio": [str(shards / "studio.tar")]}).values())
    assert {(fact.subject, fact.value("camera"), fact.side) for fact in found} == {
        (f"S{i % 3}", f"{100 + i % 2}", "left" if i % 2 else "right") for i in range(6)
    }
    assert all(fact.contact is None and fact.dataset == "studio" and fact.value("region") == "" for fact in found)
    sample = make_sample(3, side=32)
    write_tar(tmp_path / "wild.tar", [sample, ("broken", {"jpg": b"", "json": b"{}", "safetensors": b""})])
    photos = read_facts({"wild": [str(tmp_path)]})
    assert photos.keys() == {f"wild/{sample.key}"} and sample.meta.scores is not None
    assert (
        photos[f"wild/{sample.key}"].subject == f"{3:064x}"
        and photos[f"wild/{sample.key}"].contact == sample.meta.scores.contact
    )


# --- tables ---


def test_subsets_partition_the_set(results: Any) -> None:
    records, facts = results
    rows = tabulate(records, facts, TableConfig(bootstrap=NO_INTERVALS))
    network = [row for row in rows if row.system == "network"]
    assert [(row.split, row.subset) for row in network] == [
        ("all", "all"),
        ("touch", "apart"),
        ("touch", "touching"),
        ("side", "left"),
        ("side", "right"),
        ("subject", "S0"),
        ("subject", "S1"),
        ("subject", "S2"),
        ("camera", "100"),
        ("camera", "101"),
    ]
    whole = network[0]
    assert whole.samples == 6 and whole.subject_count == 3
    by_subject = [row for row in network if row.split == "subject"]
    mean = np.mean([row.frames["pve"].value for row in by_subject])
    assert mean == pytest.approx(whole.frames["pve"].value)  # two frames each
    few = tabulate(records, facts, TableConfig(by=("subject",), most=2, bootstrap=NO_INTERVALS))
    assert {row.split for row in few} == {"all"}


def test_files(results: Any, tmp_path: Path) -> None:
    records, facts = results
    rows = tabulate(records, facts, TableConfig(by=("side",), bootstrap=BootstrapConfig(50)))
    pairs = pair(records, facts, BootstrapConfig(50))
    write_results(tmp_path, rows, pairs, "both", 0.95, [])
    write_samples(tmp_path / "samples.parquet", records, facts)
    document = json.loads((tmp_path / "results.json").read_text())
    first = document["rows"][0]
    assert first["system"] == "network" and first["samples"] == 6 and document["level"] == 0.95
    value, low, high = first["by_frame"]["pve"]
    assert low < value < high and value == rows[0].frames["pve"].value
    lines = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text())))
    (line,) = [r for r in lines if (r["system"], r["split"], r["metric"]) == ("network", "all", "pve")]
    assert float(line["value"]) == pytest.approx(value, rel=1e-5) and line["unit"] == "mm" and line["low_subjects"]
    text = (tmp_path / "table.md").read_text()
    assert f"| network | 6 | 3 | {cell(rows[0].frames['pve'], BY_NAME['pve'])} |" in text
    assert "| the same, over subjects |" in text and "Col.Dist closed (mm) ↓" in text
    table = pq.read_table(tmp_path / "samples.parquet")
    assert table.num_rows == 18 and {"system", "key", "subject", "camera", "pve", "collision_closed"} <= set(
        table.column_names
    )
    mean = np.mean([row["pve"] for row in table.to_pylist() if row["system"] == "network"])
    assert 1000 * mean == pytest.approx(value)
    assert {(one["system"], one["minus"]) for one in document["paired"]} == {
        ("network", "mean pose"),
        ("network", "oracle"),
    }
    assert "## network minus mean pose, paired over the same 6 samples" in text


def test_one_picture_in_two_sets_is_two_samples(shards: Path, truth: LabelMeshes, network: NetworkSystem) -> None:
    tar = str(shards / "studio.tar")
    data = DataConfig(
        (DatasetConfig("a", (tar,)), DatasetConfig("b", (tar,))),
        image_size=128,
        batch_size=4,
        shuffle="none",
        workers=0,
        index_folder=str(shards / "index"),
    )
    facts = read_facts({"a": [tar], "b": [tar]})
    rows = collect({"network": network}, make_pass(data, pin_memory=False), truth, None, facts, datasets=["a", "b"])
    table = tabulate(rows, facts, TableConfig(by=("dataset",), bootstrap=NO_INTERVALS))
    assert [(row.subset, row.samples) for row in table] == [("all", 12), ("a", 6), ("b", 6)]


def test_the_oracle_says_nothing_about_pictures_without_3d_labels(shards: Path, truth: LabelMeshes) -> None:
    def unlabelled() -> Iterator[Batch]:
        for batch in _pass(shards):
            yield replace(
                batch, has_mesh=torch.zeros_like(batch.has_mesh), has_contact=torch.zeros_like(batch.has_mesh)
            )

    rows = collect({"oracle": Oracle()}, unlabelled(), truth, None, None)
    assert len(rows["oracle"]) == 6
    assert not tabulate(rows, {}, TableConfig(by=(), bootstrap=NO_INTERVALS))  # and so has no row


def test_variants_choose_columns(results: Any) -> None:
    rows = tabulate(results[0], results[1], TableConfig(by=(), bootstrap=NO_INTERVALS))
    paper = [metric.name for metric in chosen(rows, "paper")[0]]
    assert paper == ["pve", "mpjpe", "pa_mpjpe", "col_dist", "non_col", "touch", "f_score"]
    corrected = markdown(rows, [], "corrected", 0.95)
    assert "Col.Dist closed" in corrected and "| PVE* (mm) ↓ |" not in corrected
    assert cell(None, BY_NAME["pve"]) == "-" and cell(Estimate(1.0, np.nan, np.nan), BY_NAME["pve"]) == "1.00"
    assert cell(Estimate(0.5, 0.4, 0.61), BY_NAME["face_f1"]) == "0.500 [0.400, 0.610]"


def test_pictures_and_page(results: Any, shards: Path, truth: LabelMeshes, network: NetworkSystem) -> None:
    records, facts = results
    cases = choose(records["network"], 1)
    assert [case.kind for case in cases] == ["worst", "median", "best"]
    errors = sorted(1000 * records["network"].columns["pve"])
    assert cases[0].error == errors[-1] and cases[2].error == errors[0]
    drawn = draw_cases(
        cases[:2], _pass(shards), network, truth, name_samples=lambda batch: name_samples(batch, ["studio"])
    )
    (_, sheet), *_ = drawn["worst"]
    assert sheet.shape == (128, 5 * 128, 3) and sheet.dtype == np.uint8 and sheet[:, 128:].std() > 5
    rows = tabulate(records, facts, TableConfig(by=("side",), bootstrap=NO_INTERVALS))
    page = render_page("<script>alert(1)</script>", rows, "both", 0.95, drawn, [])
    assert "<script" not in page and "&lt;script&gt;" in page and "default-src 'none'" in page
    assert page.count("data:image/jpeg") == 2 and "Worst samples" in page and "Best samples" not in page
    assert choose(Records(), 3) == []


def test_speed_counts_milliseconds_per_picture(topology: Topology) -> None:
    model = Dice(preset("dice-nano", topology.sizes), topology).eval()
    one, four = measure_speed(model, (1, 4), seconds=0.05)
    assert (one.batch, four.batch, one.device, one.precision) == (1, 4, "cpu", "fp32")
    assert 0 < four.milliseconds < 3 * one.milliseconds < 10_000
