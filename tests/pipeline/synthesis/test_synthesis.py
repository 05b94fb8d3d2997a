"""Scenes as samples: exact labels, limits on overlap, determinism, units, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from handface.model.bodies.convention import Convention
from handface.model.bodies.load import load_body
from handface.model.render import NOTHING
from handface.pipeline.contract.checks.sample import check_sample
from handface.pipeline.contract.sample import LEFT, Labels, Sample, encode
from handface.pipeline.synthesis.make import PictureConfig, SynthesisConfig, make_sample, pack_scene, render_scene
from handface.pipeline.synthesis.scene.background import BackgroundError
from handface.pipeline.synthesis.scene.scene import SceneConfig

CONFIG = SynthesisConfig(seed=3, size=128)


@pytest.fixture(scope="module")
def scenes() -> list:
    """A few rendered scenes, both hands among them."""
    made = [render_scene(k, CONFIG) for k in range(10)]
    assert {m.scene.left for m in made} == {False, True}
    return made


@pytest.fixture(scope="module")
def samples(scenes: list) -> list[Sample]:
    return [pack_scene(made, k, CONFIG) for k, made in enumerate(scenes)]


def posed(labels: Labels) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Head and hand vertices and keypoints that the labels' parameters give, through the public bodies."""

    def t(x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(x, np.float32).reshape(1, -1))

    head = load_body("free-head")(
        t(labels.head_betas),
        t(labels.head_pose),
        t(labels.head_global_orient),
        t(labels.head_transl),
        t(labels.head_expression),
    )
    side = "left" if labels.hand_side[0] == LEFT else "right"
    hand = load_body("free-hand", Convention(keypoints="mediapipe"), side)(
        t(labels.hand_betas), t(labels.hand_pose), t(labels.hand_global_orient), t(labels.hand_transl)
    )
    return tuple(x[0].numpy() for x in (head.vertices, head.keypoints, hand.vertices, hand.keypoints))


def test_parameters_give_the_scene_back(scenes: list, samples: list[Sample]) -> None:
    for made, sample in zip(scenes, samples, strict=True):
        labels = sample.labels
        head, face_points, hand, hand_points = posed(labels)
        scene, view = made.scene, made.view
        np.testing.assert_allclose(head, view.to_camera(scene.head), atol=2e-6)
        np.testing.assert_allclose(hand, view.to_camera(scene.mirrored(scene.hand.vertices)), atol=2e-6)
        np.testing.assert_allclose(face_points, labels.head_keypoints_3d, atol=2e-6)
        np.testing.assert_allclose(hand_points, labels.hand_keypoints_3d, atol=2e-6)


def test_keypoints_reproject(samples: list[Sample]) -> None:
    for sample in samples:
        labels = sample.labels
        points = np.concatenate([labels.head_keypoints_3d, labels.hand_keypoints_3d]).astype(float)
        pixels = points @ labels.camera_intrinsics.T.astype(float)
        pixels = pixels[:, :2] / pixels[:, 2:]
        stored = np.concatenate([labels.face_keypoints_2d, labels.hand_keypoints_2d[0]])[:, :2]
        assert np.abs(pixels - stored).max() < 0.01


def test_hand_is_outside_the_deformed_head(scenes: list) -> None:
    touching = [m.scene for m in scenes if m.scene.kind == "touch"]
    assert len(touching) >= 4
    for scene in touching:
        assert scene.touch.deepest < 0.005 and scene.touch.median_depth < 0.001
        assert scene.touch.hand_contact.sum() >= 4 and scene.touch.head_contact.any()


def test_deformation_is_stored_in_head_axes(scenes: list, samples: list[Sample]) -> None:
    for made, sample in zip(scenes, samples, strict=True):
        dense = np.zeros_like(made.scene.displacement)
        dense[sample.labels.head_deformation_rows] = sample.labels.head_deformation
        assert np.abs(dense - made.scene.displacement).max() < 1.2e-4  # what is left out, and float16
        assert (np.diff(sample.labels.head_deformation_rows) > 0).all()


def test_depth_and_visibility_agree_with_the_picture(samples: list[Sample]) -> None:
    for sample in samples:
        labels = sample.labels
        depth = labels.keypoint_depth["synthetic"]
        assert depth.kind == "metric"
        known = depth.values[:, 1] > 0
        assert (labels.keypoint_visibility[known] == 1).all()
        z = np.concatenate([labels.head_keypoints_3d, labels.hand_keypoints_3d])[:, 2]
        assert np.abs(depth.values[known, 0] - z[known]).max() < 0.03
        assert np.median(np.abs(depth.values[known, 0] - z[known])) < 0.012
        assert labels.keypoint_visibility.sum() > 20


def test_samples_pass_validation(samples: list[Sample]) -> None:
    for sample in samples:
        assert list(check_sample(sample.key, encode(sample))) == []
        assert sample.meta.source.licence == "CC0-1.0"


def test_a_scene_is_the_same_whoever_makes_it_and_differs_from_others(samples: list[Sample]) -> None:
    assert encode(make_sample(4, CONFIG)) == encode(samples[4])
    assert len({s.key for s in samples}) == len(samples)
    assert make_sample(4, SynthesisConfig(seed=4, size=128)).key != samples[4].key


def test_near_and_front_hands_do_not_touch() -> None:
    for kind in ("near", "front"):
        config = SynthesisConfig(size=64, scenes=SceneConfig(near_share=kind == "near", front_share=kind == "front"))
        scene = render_scene(1, config).scene
        assert scene.kind == kind
        assert not scene.touch.hand_contact.any() and not scene.displacement.any()
        assert scene.touch.hand_distance.min() > 0.0025


def test_backgrounds_come_from_a_folder(tmp_path: Path) -> None:
    from PIL import Image

    config = SynthesisConfig(size=64, pictures=PictureConfig(backgrounds=str(tmp_path)))
    with pytest.raises(BackgroundError, match="holds no pictures"):
        render_scene(0, config)
    Image.new("RGB", (90, 80), (0, 255, 0)).save(tmp_path / "green.png")
    from handface.pipeline.synthesis.scene.background import background_files

    background_files.cache_clear()
    made = render_scene(0, config)
    empty = made.picture.coverage == 0
    assert empty.any()
    assert (made.image[empty][:, 1] > 150).all() and (made.image[empty][:, 0] < 60).all()


@pytest.mark.parametrize("bad", [{"size": 1024}, {"size": 10}, {"unit_size": 0}, {"seed": -1}])
def test_impossible_settings_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=r"size|seed"):
        SynthesisConfig(**bad)


def test_unknown_regions_and_shares_are_refused() -> None:
    with pytest.raises(ValueError, match=r"elbow.*choose some of.*cheek"):
        SceneConfig(regions=("cheek", "elbow"))
    with pytest.raises(ValueError, match="together at most 1"):
        SceneConfig(near_share=0.7, front_share=0.7)


def test_the_verb_writes_parts_resumes_and_gives_equal_bytes(tmp_path: Path) -> None:
    from handface.jobs.synthesize import Config, run

    def parts(name: str) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted((tmp_path / name).glob("part-*"))}

    for name in ("a", "b"):
        assert run(Config(count=4, output=str(tmp_path / name), size=64, unit_size=2, local=True)) == 0
    first = parts("a")
    assert len(first) == 6 and first == parts("b")
    victim = next(p for p in (tmp_path / "a").glob("part-*.json"))
    victim.unlink()
    assert run(Config(count=4, output=str(tmp_path / "a"), size=64, unit_size=2, local=True)) == 0
    assert parts("a") == first
    with pytest.raises(ValueError, match="another configuration"):
        run(Config(count=4, output=str(tmp_path / "a"), size=80, unit_size=2, local=True))


def test_depth_map_has_the_surfaces_depth_and_zero_elsewhere(scenes: list, samples: list[Sample]) -> None:
    from handface.pipeline.contract.images.depth_map import decode_depth_png

    depth = scenes[0].picture.buffers.depth
    np.testing.assert_allclose(
        decode_depth_png(samples[0].depth_png), np.where(np.isfinite(depth), depth, 0), atol=2e-5
    )


def test_studio_pictures_have_a_green_screen_and_the_same_geometry() -> None:
    open_world, studio = (
        render_scene(3, SynthesisConfig(size=64, pictures=PictureConfig(domain=domain)))  # type: ignore[arg-type]
        for domain in ("open", "studio")
    )
    assert np.array_equal(open_world.scene.head, studio.scene.head)
    backdrop = studio.image[studio.picture.mesh == NOTHING].astype(int)
    green = (backdrop[:, 1] > backdrop[:, 0] + 40) & (backdrop[:, 1] > backdrop[:, 2] + 40)
    assert green.mean() > 0.95  # all but the pixels that an outline smooths
    assert 0.5 <= studio.dressed.complexion.tone <= 2.0
