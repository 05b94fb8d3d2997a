"""Errors of vertices and keypoints: known values, the paper's centring, Procrustes and its invariances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from handface.trainers.metrics.contact import confusion
from handface.trainers.metrics.meshes import Meshes
from handface.trainers.metrics.pose import align_similarity, deformation_errors, distances, pose_errors


def random_meshes(seed: int = 0, batch: int = 2, hand: int = 6, head: int = 14, **changes: Any) -> Meshes:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 0.1) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=generator, dtype=torch.float64)

    values: dict[str, Any] = {
        "hand": draw(batch, hand, 3),
        "head": draw(batch, head, 3),
        "deformation": draw(batch, head, 3, scale=0.005),
        "keypoints": draw(batch, 89, 3),
        "hand_contact": torch.rand(batch, hand, generator=generator),
        "head_contact": torch.rand(batch, head, generator=generator),
        "presence": torch.rand(batch, generator=generator),
    }
    return Meshes(**(values | changes))


def _zero_deformation(meshes: Meshes) -> Meshes:
    return replace(meshes, deformation=torch.zeros_like(meshes.deformation))


def test_the_truth_has_no_error_but_the_papers_centring() -> None:
    meshes = random_meshes()
    still = _zero_deformation(meshes)
    assert all(value.abs().max() < 1e-12 for value in pose_errors(still, still).values())
    # with a deformation, the prediction is centred on the undeformed head and the truth on the deformed one
    offset = meshes.deformation.mean(1).norm(dim=1)
    errors = pose_errors(meshes, meshes)
    for name in ("pve", "pve_head", "pve_hand", "mpjpe"):
        torch.testing.assert_close(errors[name], offset)
    for name in ("pa_mpjpe", "pve_same", "mpjpe_same"):
        assert errors[name].abs().max() < 1e-9


def test_errors_do_not_see_where_the_pair_stands_but_see_the_hands_place_at_the_face() -> None:
    truth = _zero_deformation(random_meshes())
    shift = torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)
    moved = replace(truth, hand=truth.hand + shift, head=truth.head + shift, keypoints=truth.keypoints + shift)
    assert all(value.abs().max() < 1e-9 for value in pose_errors(moved, truth).values())
    step = torch.tensor([0.0, 0.03, 0.04], dtype=torch.float64)  # 5 cm
    hand_off = pose_errors(replace(truth, hand=truth.hand + step), truth)
    assert hand_off["pve_hand"].tolist() == pytest.approx([0.05, 0.05])
    assert hand_off["pve_head"].abs().max() < 1e-12
    assert hand_off["pve"].tolist() == pytest.approx([0.05 * 6 / 20] * 2)  # 6 hand, 14 head vertices


def test_pve_weighs_vertices_and_uses_the_deformed_head() -> None:
    truth = _zero_deformation(random_meshes())
    dented = torch.zeros_like(truth.deformation)
    dented[:, 3] = torch.tensor([0.0, 0.0, 0.007])
    errors = pose_errors(replace(truth, deformation=dented), truth)
    assert errors["pve"].tolist() == pytest.approx([0.007 / 20] * 2)
    assert errors["mpjpe"].abs().max() < 1e-12  # keypoints are those of the undeformed head


def test_deformation_errors() -> None:
    truth = _zero_deformation(random_meshes())
    mine = torch.zeros_like(truth.deformation)
    true = torch.zeros_like(truth.deformation)
    true[0, 0] = torch.tensor([0.006, 0.0, 0.0])  # large
    true[0, 1] = torch.tensor([0.004, 0.0, 0.0])  # not
    mine[0, 0] = torch.tensor([0.006, 0.003, -0.004])
    errors = deformation_errors(replace(truth, deformation=mine), replace(truth, deformation=true))
    assert errors["large"].tolist() == [1, 0]
    assert errors["deformation_large"].tolist() == pytest.approx([0.005, 0])
    assert errors["deformation_large_l1"].tolist() == pytest.approx([0.007, 0])
    assert errors["deformation"].tolist() == pytest.approx([(0.005 + 0.004) / 14, 0])


def test_procrustes_against_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        points, target = rng.normal(size=(2, 89, 3))
        aligned = align_similarity(torch.from_numpy(points)[None], torch.from_numpy(target)[None])[0].numpy()
        mean = target.mean(0)
        norm = np.linalg.norm(target - mean)
        reference, theirs, _ = procrustes(target, points)  # standardises both; may reflect, so compare when it did not
        turn = np.linalg.lstsq(points - points.mean(0), theirs, rcond=None)[0]
        if np.linalg.det(turn) > 0:
            np.testing.assert_allclose(aligned, theirs * norm + mean, atol=1e-9)
        assert ((aligned - target) ** 2).sum() >= ((theirs - reference) ** 2).sum() * norm**2 - 1e-9


@given(
    seed=st.integers(0, 2**16),
    scale=st.floats(0.05, 20),
    vector=st.tuples(*[st.floats(-3, 3)] * 3),
    shift=st.tuples(*[st.floats(-10, 10)] * 3),
)
@settings(max_examples=50, deadline=None)
def test_procrustes_ignores_similarities(
    seed: int, scale: float, vector: tuple[float, ...], shift: tuple[float, ...]
) -> None:
    rng = np.random.default_rng(seed)
    points, target = torch.from_numpy(rng.normal(size=(2, 1, 89, 3)))
    turn = torch.from_numpy(Rotation.from_rotvec(vector).as_matrix())
    moved = scale * points @ turn.T + torch.tensor(shift, dtype=torch.float64)
    torch.testing.assert_close(align_similarity(moved, target), align_similarity(points, target), atol=1e-7, rtol=0)
    torch.testing.assert_close(
        align_similarity(target, moved),
        moved.mean(1, keepdim=True)
        + scale * (align_similarity(target, points) - points.mean(1, keepdim=True)) @ turn.T,
        atol=1e-6,
        rtol=0,
    )
    assert distances(align_similarity(moved, points), points).max() < 1e-7


def test_procrustes_never_mirrors() -> None:
    rng = np.random.default_rng(1)
    target = torch.from_numpy(rng.normal(size=(1, 89, 3)))
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0])
    assert distances(align_similarity(mirrored, target), target).mean() > 0.2
    flat = target * torch.tensor([1.0, 1.0, 0.0])  # points in a plane: a half turn undoes the mirror
    assert distances(align_similarity(flat * torch.tensor([-1.0, 1.0, 1.0]), flat), flat).max() < 1e-9
    same = torch.zeros(1, 89, 3, dtype=torch.float64)
    torch.testing.assert_close(align_similarity(same, target), target.mean(1, keepdim=True).expand_as(target))


def test_confusion_counts() -> None:
    probability = torch.tensor([[0.9, 0.6, 0.5, 0.1, 0.8]])
    label = torch.tensor([[1.0, 0.0, 1.0, 0.0, 1.0]])
    counts = confusion(probability, label, "x")
    assert {name: value.tolist() for name, value in counts.items()} == {
        "x_tp": [2.0],
        "x_fp": [1.0],
        "x_fn": [1.0],  # 0.5 is not above 0.5
        "x_tn": [1.0],
    }
