import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handface.model.prediction.view import expand_box, iou, square, whole


def dot_image(x: int, y: int, width: int = 200, height: int = 160) -> np.ndarray:
    """Black with a bright 5x5 dot centred at (x, y)."""
    image = np.zeros((height, width, 3), np.uint8)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    return image


def centroid(pixels: np.ndarray) -> np.ndarray:
    weight = pixels[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    return np.array([[(columns * weight).sum(), (rows * weight).sum()]]) / weight.sum()


@given(
    x=st.integers(60, 140),
    y=st.integers(50, 110),
    angle=st.floats(-180, 180),
    mirrored=st.booleans(),
    side=st.floats(130, 170),
)
def test_points_of_a_view_map_back_to_where_they_are_in_the_image(x, y, angle, mirrored, side):
    box = (100 - side / 2, 80 - side / 2, 100 + side / 2, 80 + side / 2)
    view = square(dot_image(x, y), box, 160, angle, mirrored, border=(0, 0, 0))
    assert view.pixels.max() > 0
    assert view.to_image(centroid(view.pixels))[0] == pytest.approx((x, y), abs=0.6)


def test_a_strongly_shrunk_view_is_smooth_and_still_in_place():
    image = dot_image(1200, 900, 2000, 1600)
    image[880:921, 1180:1221] = 255
    view = square(image, (0, -200, 2000, 1800), 200)
    bright = np.where(view.pixels > 127 + 20, view.pixels, 0)
    assert view.to_image(centroid(bright))[0] == pytest.approx((1200, 900), abs=8)


def test_whole_keeps_small_images_and_shrinks_large_ones_without_shift():
    image = dot_image(150, 40)
    assert whole(image, 400).pixels is image
    view = whole(image, 100)
    assert view.pixels.shape == (80, 100, 3) and view.scale == pytest.approx(2)
    assert view.to_image(centroid(view.pixels))[0] == pytest.approx((150, 40), abs=0.15)


def test_mirrored_view_shows_the_mirror_image():
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    box = (-0.5, -0.5, 63.5, 63.5)
    assert np.array_equal(square(image, box, 64, mirrored=True).pixels, square(image, box, 64).pixels[:, ::-1])


def test_boxes():
    assert iou((0, 0, 2, 2), (1, 1, 3, 3)) == pytest.approx(1 / 7)
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0
    assert expand_box((0, 0, 4, 2), 2) == (-2, -3, 6, 5)
