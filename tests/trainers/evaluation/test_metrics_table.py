"""From rows to the table: pooled formulas by hand, merging, intervals, and photos without 3D labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.pipeline.contract.sample import DEPTH_KINDS
from handface.trainers.metrics import BY_NAME, BootstrapConfig, Records, differences, summarise
from handface.trainers.metrics.table import METRICS
from handface.trainers.metrics.wild import depth_order, reprojection


def _records(**columns: list[float]) -> Records:
    count = len(next(iter(columns.values())))
    return Records(tuple(f"{i:03d}" for i in range(count)), {n: np.array(v, float) for n, v in columns.items()})


def _values(records: Records) -> dict[str, float]:
    return {name: estimate.value for name, estimate in summarise(records, BootstrapConfig(0)).items()}


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(METRICS)


def test_the_papers_row_by_hand() -> None:
    records = _records(
        frames=[1, 1, 1, 0],
        pve=[0.008, 0.010, 0.012, 0],
        mpjpe=[0.01, 0.01, 0.01, 0],
        pa_mpjpe=[0.007, 0.007, 0.01, 0],
        surfaces=[1, 1, 1, 0],
        collision=[0.0003, 0.0, 0.0006, 0],
        free=[1, 1, 0, 0],
        true_touches=[1, 1, 0, 0],
        both_touch=[1, 0, 0, 0],
    )
    found = _values(records)
    assert found["pve"] == pytest.approx(10) and found["mpjpe"] == pytest.approx(10)
    assert found["pa_mpjpe"] == pytest.approx(8) and found["col_dist"] == pytest.approx(0.3)
    assert found["non_col"] == pytest.approx(200 / 3) and found["touch"] == pytest.approx(50)
    assert found["f_score"] == pytest.approx(2 * (200 / 3) * 50 / (200 / 3 + 50))
    assert "deformation" not in found and "reprojection" not in found  # nothing measured, no row


def test_f_of_the_published_ratios() -> None:
    for free, touch, published in ((66.6, 79.9, 72.7), (83.6, 96.6, 89.6)):
        records = _records(surfaces=[1000.0], free=[10 * free], true_touches=[1000.0], both_touch=[10 * touch])
        assert _values(records)["f_score"] == pytest.approx(published, abs=0.06)
    nothing = _records(surfaces=[1.0], free=[0.0], true_touches=[1.0], both_touch=[0.0])
    assert _values(nothing)["f_score"] == 0


def test_contact_is_pooled_over_vertices_not_averaged_over_frames() -> None:
    records = _records(face_tp=[9, 0], face_fp=[1, 9], face_fn=[0, 1], face_tn=[90, 90], hand_tp=[1, 0], hand_fp=[0, 0])
    found = _values(records)
    assert found["face_precision"] == pytest.approx(9 / 19) and found["face_recall"] == pytest.approx(0.9)
    assert found["face_f1"] == pytest.approx(18 / 29) and found["face_accuracy"] == pytest.approx(189 / 200)
    assert found["hand_f1"] == 1 and found["both_precision"] == pytest.approx(10 / 20)


def test_columns_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"column pve has shape \(2,\), expected \(1,\)"):
        Records(("a",), {"pve": np.zeros(2)})
    with pytest.raises(ValueError, match="bootstrap"):
        BootstrapConfig(level=1.0)
    assert summarise(Records()) == {}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None)
def test_merging_does_not_depend_on_the_ranks(ranks: list[int], shuffle: Any) -> None:
    rng = np.random.default_rng(len(ranks))
    rows = [Records((f"{i:03d}",), {"pve": rng.random(1), "frames": np.ones(1)}) for i in range(len(ranks))]
    whole = Records.merge(rows)
    parts = [Records.merge([row for row, mine in zip(rows, ranks, strict=True) if mine == rank]) for rank in range(4)]
    shuffle.shuffle(parts)
    again = Records.merge([*parts, rows[0]])  # a padded repeat
    assert again.keys == whole.keys
    assert np.array_equal(again.columns["pve"], whole.columns["pve"])


def test_merging_fills_columns_that_a_part_lacks() -> None:
    merged = Records.merge([_records(pve=[1.0]), Records(("zzz",), {"order_pairs": np.array([3.0])})])
    assert merged.columns["pve"].tolist() == [1, 0] and merged.columns["order_pairs"].tolist() == [0, 3]


def test_intervals_are_deterministic_and_about_right() -> None:
    rng = np.random.default_rng(0)
    records = _records(pve=list(rng.normal(0.01, 0.002, 400)), frames=[1.0] * 400)
    config = BootstrapConfig(replicates=2000, seed=3)
    estimate = summarise(records, config)["pve"]
    assert estimate == summarise(records, config)["pve"]
    assert estimate != summarise(records, BootstrapConfig(replicates=2000, seed=4))["pve"]
    standard = 1000 * np.std(records.columns["pve"]) / 20  # of the mean of 400
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * standard, rel=0.08)
    assert estimate.low < estimate.value < estimate.high


def test_intervals_by_subject_are_wider_when_subjects_differ() -> None:
    subjects = [f"S{i // 50}" for i in range(400)]
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(0.01, 0.003, 8), 50) + rng.normal(0, 0.0005, 400)
    records = _records(pve=list(values), frames=[1.0] * 400)
    frames, clustered = summarise(records)["pve"], summarise(records, clusters=subjects)["pve"]
    assert clustered.value == frames.value
    assert clustered.high - clustered.low > 3 * (frames.high - frames.low)
    alone = summarise(records, clusters=["S1"] * 400)["pve"]
    assert np.isnan(alone.low) and alone.value == frames.value  # one subject says nothing about others
    each = summarise(records, clusters=[f"{i:03d}" for i in range(400)])["pve"]
    assert (each.low, each.high) == pytest.approx((frames.low, frames.high), rel=3e-3)


# --- photos ---


def _labels(size: float = 100.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    face = torch.rand(1, 68, 3, generator=generator) * size
    face[0, 0, :2], face[0, 1, :2] = torch.tensor([0.0, 0.0]), torch.tensor([size, size])
    hand = torch.rand(1, 21, 3, generator=generator) * size
    face[..., 2], hand[..., 2] = 1, 1
    return face, hand


def test_reprojection_is_relative_to_the_face() -> None:
    face, hand = _labels(100.0)
    pixels = torch.cat([face, hand], 1)[..., :2]
    pixels[:, 68:] += torch.tensor([3.0, 4.0])
    found = {name: value.item() for name, value in reprojection(pixels, face, hand).items()}
    assert found["reprojection_face"] == 0 and found["reprojection_hand"] == pytest.approx(0.05)
    assert found["reprojection"] == pytest.approx(0.05 * 21 / 89)
    twice = reprojection(2 * pixels, face * torch.tensor([2.0, 2, 1]), hand * torch.tensor([2.0, 2, 1]))
    assert twice["reprojection"].item() == pytest.approx(found["reprojection"], rel=1e-5)


def test_reprojection_leaves_out_what_nobody_labelled() -> None:
    face, hand = _labels()
    pixels = torch.cat([face, hand], 1)[..., :2] + 1
    hand[0, 5] = torch.tensor([1e6, 1e6, 0.0])
    hand[0, 6] = torch.tensor([torch.nan, torch.nan, 0.0])
    found = reprojection(pixels, face, hand)
    assert found["reprojection_hand"].item() == pytest.approx(2**0.5 / 100)
    hand[..., 2] = 0
    found = reprojection(pixels, face, hand)
    assert found["reprojection_hand_known"].item() == 0 == found["reprojection_hand"].item()
    face[0, 20:, 2] = 0  # too little of a face to measure by
    found = reprojection(pixels, face, hand)
    assert found["reprojection_known"].item() == 0 == found["reprojection"].item()


def _depth(kind: str, near: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A reference in which smaller `near` (89,) is nearer."""
    value = 1 / near if kind == "affine-inverse" else near
    return torch.stack([value, torch.ones(89)], -1)[None], torch.tensor([DEPTH_KINDS.index(kind)])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", DEPTH_KINDS)
def test_depth_order_of_every_kind(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    near = 1 + torch.rand(89, generator=generator)
    reference, index = _depth(kind, near)
    keypoints = torch.zeros(1, 89, 3)
    keypoints[0, :, 2] = 5 * near - 3  # any rising function keeps the order
    found = depth_order(keypoints, reference, index, torch.ones(1, 89))
    assert found["order_pairs"].item() > 1000 and found["order_right"].equal(found["order_pairs"])
    assert (found["order_across_pairs"].item() == 0) == (kind == "affine-per-part")
    keypoints[0, :, 2] *= -1
    wrong = depth_order(keypoints, reference, index, torch.ones(1, 89))
    assert wrong["order_right"].item() == 0 and wrong["order_pairs"].equal(found["order_pairs"])


def test_depth_order_counts_pairs_by_hand() -> None:
    reference = torch.zeros(1, 89, 2)
    reference[0, 0] = torch.tensor([1.0, 1.0])  # face
    reference[0, 1] = torch.tensor([1.01, 1.0])  # face, too near to the first to have an order
    reference[0, 70] = torch.tensor([2.0, 1.0])  # hand
    reference[0, 71] = torch.tensor([9.0, 0.0])  # not valid
    keypoints = torch.zeros(1, 89, 3)
    keypoints[0, 0, 2], keypoints[0, 1, 2], keypoints[0, 70, 2] = 0.5, 3.0, 2.0
    metric = torch.tensor([DEPTH_KINDS.index("metric")])
    found = {name: value.item() for name, value in depth_order(keypoints, reference, metric, torch.ones(1, 89)).items()}
    assert found == {"order_right": 1, "order_pairs": 2, "order_across_right": 1, "order_across_pairs": 2}
    hidden = torch.ones(1, 89)
    hidden[0, 70] = 0
    assert depth_order(keypoints, reference, metric, hidden)["order_pairs"].item() == 1  # now 1 cm is the whole spread
    assert depth_order(keypoints, reference, torch.tensor([-1]), torch.ones(1, 89))["order_pairs"].item() == 0


@pytest.mark.parametrize("subjects", [3, 8])
def test_intervals_over_few_subjects_hold_what_they_promise(subjects: int) -> None:
    """Of 400 test sets with as few subjects as Decaf's, about 95 % of the intervals hold the true mean."""
    rng, hits = np.random.default_rng(0), 0
    names = np.repeat([f"S{i}" for i in range(subjects)], 20).tolist()
    for _ in range(400):
        values = np.repeat(rng.normal(10.0, 2.0, subjects), 20) + rng.normal(0, 1.0, len(names))
        found = summarise(_records(pve=list(values / 1000), frames=[1.0] * len(names)), clusters=names)["pve"]
        hits += found.low <= 10.0 <= found.high
    assert 0.92 < hits / 400 < 0.98


def test_paired_differences_are_surer_than_two_intervals() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(0.02, 0.006, 200)
    better, worse = (
        _records(pve=list(hard + shift + rng.normal(0, 0.0005, 200)), frames=[1.0] * 200) for shift in (0, 0.001)
    )
    found = differences(better, worse)["pve"]
    assert found.value == pytest.approx(-1.0, abs=0.2) and found.high < 0  # surely better
    assert summarise(better)["pve"].high > summarise(worse)["pve"].low  # which the two alone cannot tell
    subjects = [f"S{i % 5}" for i in range(200)]
    assert differences(better, worse, clusters=subjects)["pve"].high < 0
    with pytest.raises(ValueError, match="different ones"):
        differences(better, Records(tuple(f"x{i}" for i in range(200)), worse.columns))
