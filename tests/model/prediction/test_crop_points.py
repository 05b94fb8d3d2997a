"""The detector's points as the network gets them: pixels of its crop, left hands in the mirror."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from handface.model.bodies.names import IBUG_MIRROR
from handface.model.network.config import PointsConfig
from handface.model.prediction.crop import crop_points, cut, person_box
from handface.model.prediction.predictor import Predictor
from tests.model.marked_photo import KnowingDetector, Mark, config, network, photo

WIDTH, HEIGHT, SIZE = 640, 480, 64
RIGHT = Mark((300.0, 200.0), (345.0, 250.0))


def seen(mark: Mark, detection=None) -> np.ndarray:
    found = mark.detection() if detection is None else detection
    image = photo([mark], WIDTH, HEIGHT)
    return crop_points(cut(image, person_box(found, 1.4, WIDTH, HEIGHT), found.side, SIZE), found)


@pytest.mark.parametrize("mark", [RIGHT, replace(RIGHT, side="left")])
def test_points_lie_where_the_crop_shows_them(mark):
    found = mark.detection()
    image = photo([mark], WIDTH, HEIGHT)
    crop = cut(image, person_box(found, 1.4, WIDTH, HEIGHT), mark.side, SIZE)
    points = crop_points(crop, found)
    assert points.shape == (89, 3) and points.dtype == np.float32
    rows, columns = np.indices((SIZE, SIZE))
    for channel, centre in ((1, points[:68, :2].mean(0)), (0, points[68:, :2].mean(0))):
        weight = crop.pixels[..., channel].astype(float)
        spot = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        # the hand's points are a part of a ring, its mean beside the dot
        assert np.abs(spot - centre).max() < (0.5 if channel == 1 else 6)


def test_a_left_hand_gives_the_points_of_the_mirror_image():
    found = RIGHT.detection()
    mirror = lambda points: np.column_stack([WIDTH - 1 - points[:, 0], points[:, 1:]]).astype(np.float32)  # noqa: E731
    other = replace(found, face=mirror(found.face)[list(IBUG_MIRROR)], hand=mirror(found.hand), side="left")
    flipped = RIGHT.flipped(WIDTH)
    np.testing.assert_allclose(seen(flipped, other), seen(RIGHT), atol=1e-2)


def test_without_a_detection_there_are_no_points():
    crop = cut(photo([RIGHT], WIDTH, HEIGHT), (0, 0, 64, 64), "right", SIZE)
    assert not crop_points(crop, None).any()


def test_points_that_are_not_there_or_no_numbers_are_zero():
    found = RIGHT.detection()
    hand = found.hand.copy()
    hand[3, 2], hand[4, 0] = 0, np.nan
    crop = cut(photo([RIGHT], WIDTH, HEIGHT), person_box(found, 1.4, WIDTH, HEIGHT), "right", SIZE)
    points = crop_points(crop, replace(found, hand=hand))
    assert not points[68 + 3].any() and not points[68 + 4].any() and np.isfinite(points).all()
    assert (points[:, 2] > 0).sum() == 87


def test_only_networks_that_look_at_points_are_given_them():
    given = []

    def look(images: torch.Tensor, *points: torch.Tensor):
        given.append(points)
        return network(images)

    for looking in (config(), replace(config(), points=PointsConfig())):
        Predictor(look, looking, KnowingDetector([RIGHT]), True).predict(photo([RIGHT], WIDTH, HEIGHT))
    assert given[0] == () and given[1][0].shape == (1, 89, 3) and (given[1][0][..., 2] > 0).all()


@pytest.mark.parametrize(("side", "given"), [("right", True), ("left", False)])
def test_a_persons_crop_is_searched_for_points_of_its_side(side, given):
    seen = []

    def look(images: torch.Tensor, points: torch.Tensor):
        seen.append(points)
        return network(images)

    looking = replace(config(), points=PointsConfig())
    Predictor(look, looking, KnowingDetector([RIGHT]), True).predict_crop(photo([RIGHT], WIDTH, HEIGHT), side)
    assert bool(seen[0].any()) is given
