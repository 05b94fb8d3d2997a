"""Variation of pictures: chances, ranges, colours, backgrounds; every switch does what it says."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handface.pipeline.contract.sample import Sample
from handface.trainers.data import AugmentConfig, DataError, make_loader
from handface.trainers.data.augment.background import Backgrounds, put_behind
from handface.trainers.data.augment.colour import (
    autocontrast,
    blur,
    equalise,
    jitter,
    posterise,
    sharpness,
    vary_colour,
)
from handface.trainers.data.config import COLOUR_OPERATIONS
from handface.trainers.data.decode import draw


def picture(seed: int = 0) -> np.ndarray:
    small = np.random.default_rng(seed).integers(60, 180, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC))


def test_draws_stay_in_their_ranges_and_fill_them() -> None:
    config = AugmentConfig(scale=0.2, rotation=20, translation=0.1, colour=0.3, flip=0.7)
    draws = [draw(config, 100, 5, position) for position in range(2000)]
    angles, scales = np.degrees([d.angle for d in draws]), np.array([d.scale for d in draws])
    shifts = np.array([d.shift for d in draws])
    assert np.abs(angles).max() <= 20 and angles.min() < -19 and angles.max() > 19
    assert 0.8 <= scales.min() < 0.81 and 1.19 < scales.max() <= 1.2
    assert np.abs(shifts).max() <= 10 and np.abs(shifts).max() > 9.8
    assert abs(np.mean([d.colour for d in draws]) - 0.3) < 0.05 and abs(np.mean([d.flip for d in draws]) - 0.7) < 0.05
    assert not any(d.background for d in draws)  # no folder


def test_draws_depend_on_seed_and_position_only() -> None:
    config = AugmentConfig()
    assert draw(config, 64, 1, 7).angle == draw(config, 64, 1, 7).angle
    assert len({draw(config, 64, seed, position).angle for seed in (1, 2) for position in range(3)}) == 6


def test_nothing_is_drawn_when_all_is_off() -> None:
    drawn = draw(AugmentConfig.none(), 64, 0, 3)
    assert (drawn.angle, drawn.scale, drawn.shift) == (0, 1, (0, 0))
    assert not (drawn.flip or drawn.background or drawn.colour)


def test_colour_operations() -> None:
    image, rng = picture(), np.random.default_rng(0)
    assert set(np.unique(posterise(image, rng))) <= {0, 64, 128, 192}
    stretched = autocontrast(image, rng)
    assert (stretched.min((0, 1)) == 0).all() and (stretched.max((0, 1)) == 255).all()
    flat = np.full((64, 64, 3), 90, np.uint8)
    np.testing.assert_array_equal(autocontrast(flat, rng), flat)
    counts = np.histogram(equalise(image, rng)[..., 0], bins=4, range=(0, 256))[0]
    assert counts.min() > 0.8 * counts.max()
    edges = [np.abs(np.diff(x.astype(int), axis=0)).mean() for x in (blur(image, rng), image, sharpness(image, rng))]
    assert edges[0] < edges[1] < edges[2]
    grey = np.full((64, 64, 3), 128, np.uint8)  # grey has no hue: jitter changes its brightness only
    values = [int(jitter(grey, np.random.default_rng(k))[0, 0, 0]) for k in range(200)]
    assert 64 <= min(values) < 80 and 180 < max(values) <= 192
    assert np.ptp(jitter(grey, rng), axis=2).max() == 0


@pytest.mark.parametrize("operation", COLOUR_OPERATIONS)
def test_colours_are_of_the_same_kind_and_repeatable(operation: Any) -> None:
    image = picture()
    before = image.copy()
    results = [vary_colour(image, operation, np.random.default_rng(k)) for k in range(20)]
    np.testing.assert_array_equal(image, before)
    assert all(r.shape == image.shape and r.dtype == np.uint8 for r in results)
    assert any((r != image).any() for r in results)
    np.testing.assert_array_equal(results[3], vary_colour(image, operation, np.random.default_rng(3)))


def test_put_behind() -> None:
    image, back = np.full((2, 3, 3), 200, np.uint8), np.full((2, 3, 3), 100, np.uint8)
    mask = np.array([[255, 0, 51], [255, 255, 0]], np.uint8)
    mixed = put_behind(image, mask, back)
    assert mixed[..., 0].tolist() == [[200, 100, 120], [200, 200, 100]]


@pytest.fixture
def masked(make_sample: Any, write_tar: Any, tmp_path: Path) -> Path:
    """A shard whose people are the middle of the picture."""
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    buffer = BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    samples: list[Sample] = [
        replace(make_sample(k, side=64, depth=False), mask_png=buffer.getvalue()) for k in range(4)
    ]
    return write_tar(tmp_path / "masked.tar", samples)


def test_backgrounds_fill_everything_but_the_person(config: Any, masked: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backgrounds"
    folder.mkdir()
    Image.new("RGB", (90, 70), (0, 255, 0)).save(folder / "green.png")
    augment = replace(AugmentConfig.none(), backgrounds=str(folder), background=1.0)
    plain = next(iter(make_loader(config(masked, augment=AugmentConfig.none()))))
    green = next(iter(make_loader(config(masked, augment=augment))))
    assert plain.keys == green.keys
    assert (green.images[:, 1, :15, :] == 255).all() and (green.images[:, 0, :15, :] == 0).all()
    assert (green.images[:, :, 18:46, 18:46] == plain.images[:, :, 18:46, 18:46]).all()
    moved = replace(augment, rotation=30.0, translation=0.3, scale=0.2)
    for batch in islice(make_loader(config(masked, augment=moved)), 3):
        assert (batch.images[:, 1].flatten(1) == 255).float().mean() > 0.3
        border = batch.images[:, :, 0, 0]  # outside of the moved picture is background too, not black
        assert (border[:, 1] > 100).all()


def test_pictures_without_a_mask_keep_their_background(config: Any, wild: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backgrounds"
    folder.mkdir()
    Image.new("RGB", (90, 70), (0, 255, 0)).save(folder / "green.png")
    augment = replace(AugmentConfig.none(), backgrounds=str(folder), background=1.0)
    plain = next(iter(make_loader(config(wild, augment=AugmentConfig.none()))))
    assert (next(iter(make_loader(config(wild, augment=augment)))).images == plain.images).all()


def test_bad_background_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures"):
        Backgrounds(str(tmp_path))
    (tmp_path / "broken.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken\.jpg"):
        Backgrounds(str(tmp_path))


@pytest.mark.parametrize(
    "bad", [{"scale": 1.0}, {"rotation": -1.0}, {"colour": 1.5}, {"flip": -0.1}, {"colour_operations": ("paint",)}]
)
def test_impossible_variations_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        AugmentConfig(**bad)


@pytest.mark.parametrize("stored", [510, 511, 512, 341])
def test_a_crop_that_is_decoded_at_a_half_lies_where_its_labels_lie(stored: int) -> None:
    """A soft dot, painted at a place in the stored crop, is found where the labels' matrix puts that place."""
    from handface.trainers.data.augment.geometry import move_keypoints
    from handface.trainers.data.decode import _decode_jpeg, _Frame

    size, place = 112, np.array([0.31 * stored, 0.62 * stored])
    rows, columns = np.mgrid[:stored, :stored]
    dot = np.exp(-((columns - place[0]) ** 2 + (rows - place[1]) ** 2) / (2 * (stored / 40) ** 2))
    stream = BytesIO()
    Image.fromarray((dot[..., None] * [255, 255, 255]).astype(np.uint8)).save(stream, "JPEG", quality=98)
    frame = _Frame(stored, size, False, draw(AugmentConfig.none(), size, 0, 0))
    decoded = _decode_jpeg(stream.getvalue(), frame)
    assert len(decoded) < stored
    seen = frame.cut(decoded)[..., 0].astype(float)
    seen[seen < 20] = 0
    y, x = (float((seen * axis).sum() / seen.sum()) for axis in np.mgrid[:size, :size])
    expected = move_keypoints(np.array([[*place, 1]], np.float32), frame.matrix)[0]
    assert np.hypot(x - expected[0], y - expected[1]) < 0.06
