"""Scenes with both hands at the face: both labelled, apart, within the limits; the 3D labels stay hand 0's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handface.pipeline.contract.checks.sample import check_sample
from handface.pipeline.contract.sample import LEFT, RIGHT, Sample, encode, encode_labels
from handface.pipeline.report.collect import collect
from handface.pipeline.synthesis.make import (
    PictureConfig,
    RenderedScene,
    SynthesisConfig,
    make_sample,
    pack_scene,
    render_scene,
)
from handface.pipeline.synthesis.person.bodies import free_hand
from handface.pipeline.synthesis.scene.attempt import FLIP, HAND_GAP, hand_gap
from handface.pipeline.synthesis.scene.labels import scene_keypoints
from handface.pipeline.synthesis.scene.scene import MAX_DEPTH, MAX_MEDIAN_DEPTH, MIN_CONTACTS, SceneConfig, draw_scene

PICTURES = PictureConfig(supersample=1)
BOTH = SynthesisConfig(
    seed=9, size=96, scenes=SceneConfig(near_share=0, front_share=0, two_hands_share=1), pictures=PICTURES
)
COUNT = 3


@pytest.fixture(scope="module")
def made() -> list[RenderedScene]:
    return [render_scene(k, BOTH) for k in range(COUNT)]


@pytest.fixture(scope="module")
def samples(made: list[RenderedScene]) -> list[Sample]:
    return [pack_scene(scene, k, BOTH) for k, scene in enumerate(made)]


def test_both_hands_touch_within_the_limits_and_leave_each_other_alone(made: list[RenderedScene]) -> None:
    for scene in (m.scene for m in made):
        second = scene.second
        assert second is not None and second.left != scene.left
        for touch in (scene.touch, second.touch):
            assert touch.deepest < MAX_DEPTH and touch.median_depth < MAX_MEDIAN_DEPTH
            assert touch.hand_contact.sum() >= MIN_CONTACTS
        first, other = scene.mirrored(scene.hand.vertices), second.mirrored(second.hand.vertices)
        assert hand_gap(first, other, first_left=scene.left) > HAND_GAP


def test_the_gap_between_hands_is_signed() -> None:
    hand = free_hand().arrays.template.astype(float)
    low, high = hand.min(0), hand.max(0)
    mirror = hand * FLIP
    beside = mirror + [0, 0, high[2] - low[2] + 0.01]
    assert hand_gap(hand, beside, first_left=False) > 0.005
    assert hand_gap(beside, hand, first_left=True) == pytest.approx(hand_gap(hand, beside, first_left=False))
    through = mirror + (hand.mean(0) - mirror.mean(0))
    assert hand_gap(hand, through, first_left=False) < -0.002


def test_keypoints_of_both_hands_and_3d_labels_of_hand_0(made: list[RenderedScene], samples: list[Sample]) -> None:
    for m, sample in zip(made, samples, strict=True):
        labels, scene = sample.labels, m.scene
        assert labels.hand_side.tolist() == ([LEFT, RIGHT] if scene.left else [RIGHT, LEFT])
        assert labels.hand_keypoints_2d.shape == (2, 21, 3) and labels.keypoint_visibility.shape == (89,)
        own, other = (
            m.view.camera.project(m.view.to_camera(hand.mirrored(hand.hand.keypoints)))
            for hand in (scene, scene.second)
        )
        np.testing.assert_allclose(labels.hand_keypoints_2d[0, :, :2], own, atol=0.01)
        np.testing.assert_allclose(labels.hand_keypoints_2d[1, :, :2], other, atol=0.01)
        bits = np.unpackbits(labels.head_contact)[: len(scene.head)].astype(bool)
        assert np.array_equal(bits, scene.touch.head_contact)  # not where only the second hand touches
        assert (scene.second.touch.head_contact & ~bits).any()
        assert sample.meta.source.columns["second_region"] == scene.second.region
        assert list(check_sample(sample.key, encode(sample))) == []


def test_the_face_yields_to_both_hands(made: list[RenderedScene]) -> None:
    for scene in (m.scene for m in made):
        moved = np.linalg.norm(scene.displacement, axis=1)
        for touch in (scene.touch, scene.second.touch):
            assert moved[touch.head_contact].max() > 1e-4


def test_both_hands_are_drawn_and_only_a_hands_own_skin_shows_its_points(made: list[RenderedScene]) -> None:
    for m in made:
        shown = {m.dressed.names[k] for k in np.unique(m.picture.mesh) if k >= 0}
        assert {"hand", "second_hand"} <= shown
    m = made[0]
    points = scene_keypoints(m.scene, m.view, m.picture, m.dressed)
    assert points.visible.shape == (110,) and points.visible[89:].any()
    swapped = replace(m.dressed, names=tuple(n.replace("second_", "third_") for n in m.dressed.names))
    assert not scene_keypoints(m.scene, m.view, m.picture, swapped).visible[89:].any()


def test_the_same_scene_gives_the_same_bytes(samples: list[Sample]) -> None:
    assert encode(make_sample(1, BOTH)) == encode(samples[1])


def test_the_share_decides_and_leaves_scenes_with_one_hand_as_they_are() -> None:
    def scenes(share: float) -> list:
        config = SceneConfig(two_hands_share=share)
        return [draw_scene(np.random.default_rng([3, k]), config) for k in range(6)]

    none, some = scenes(0), scenes(0.4)
    assert all(scene.second is None for scene in none)
    assert 1 <= sum(scene.second is not None for scene in some) <= 5
    for without, scene in zip(none, some, strict=True):
        if scene.second is None:
            assert np.array_equal(without.displacement, scene.displacement)
            assert np.array_equal(without.hand.vertices, scene.hand.vertices)
        else:
            assert scene.kind == "touch"


def test_an_impossible_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"two_hands_share is 1\.5"):
        SceneConfig(two_hands_share=1.5)


def test_the_loader_takes_hand_0(made: list[RenderedScene], samples: list[Sample]) -> None:
    from handface.trainers.data import DataConfig, DatasetConfig
    from handface.trainers.data.collate import collate
    from handface.trainers.data.decode import Draw, SampleDecoder

    decoder = SampleDecoder(DataConfig((DatasetConfig("x", ("y",)),), image_size=BOTH.size))
    still = Draw(0.0, 1.0, (0.0, 0.0), False, False, False, np.random.default_rng(0))
    for m, sample in zip(made, samples, strict=True):
        members = {"jpg": sample.image, "safetensors": encode_labels(sample.labels)}
        batch = collate([decoder("key", 0, members, still)], decoder.hand, decoder.head)
        x = sample.labels.hand_keypoints_2d[0, :, 0]
        mirrored = BOTH.size - 1 - x if m.scene.left else x
        np.testing.assert_allclose(batch.hand_keypoints_2d[0, :, 0].numpy(), mirrored, atol=1e-3)
        assert batch.has_mesh.all()
        np.testing.assert_array_equal(batch.hand_contact[0].numpy(), m.scene.touch.hand_contact)
        assert batch.head_contact[0].sum() == m.scene.touch.head_contact.sum()


def test_the_report_has_both_hands(samples: list[Sample], tmp_path: Path, write_tar: Any) -> None:
    write_tar(tmp_path / "a.tar", samples)
    cards = collect([str(tmp_path / "a.tar")]).samples
    for card, sample in zip(cards, samples, strict=True):
        assert [hand["side"] for hand in card["hands"]] == [
            "left" if side == LEFT else "right" for side in sample.labels.hand_side
        ]
        assert [len(hand["points"]) for hand in card["hands"]] == [21, 21]
