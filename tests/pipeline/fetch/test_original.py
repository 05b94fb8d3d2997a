"""Re-encoded pictures: the area average of the original in size and colour, whatever the sides."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import simplejpeg

from handface.pipeline.fetch.original import KeepConfig, is_quick, make_original
from tests.pipeline.images import encode, photo, with_orientation


@pytest.mark.parametrize(
    ("width", "height", "most"), [(640, 480, 512), (641, 479, 333), (300, 400, 120), (301, 203, 300)]
)
def test_shrinking_is_area_averaging_in_every_size(width: int, height: int, most: int) -> None:
    image = cv2.GaussianBlur(photo(width, height), (0, 0), 4)
    kept = make_original(encode(image, quality=98), KeepConfig(mode="reencode", max_side=most))
    shrunk = simplejpeg.decode_jpeg(kept.data)
    assert max(kept.width, kept.height) == most and shrunk.shape == (kept.height, kept.width, 3)
    expected = cv2.resize(image, (kept.width, kept.height), interpolation=cv2.INTER_AREA)
    through_rgb = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(expected, 95, colorsubsampling="420"))
    assert cv2.PSNR(shrunk, expected) > cv2.PSNR(through_rgb, expected) - 1.2  # dB
    assert np.abs((shrunk.astype(float) - expected).mean((0, 1))).max() < 1
    assert simplejpeg.decode_jpeg_header(kept.data)[3] == "420"


@pytest.mark.parametrize("width", [300, 301])
def test_turned_pictures_are_shrunk_upright(width: int) -> None:
    image = cv2.GaussianBlur(photo(width, 200), (0, 0), 4)
    kept = make_original(with_orientation(image, 6), KeepConfig(mode="reencode", max_side=150))
    assert (kept.width, kept.height) == (100, 150)
    upright = cv2.resize(cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE), (100, 150), interpolation=cv2.INTER_AREA)
    assert cv2.PSNR(simplejpeg.decode_jpeg(kept.data), upright) > 30  # dB


def test_what_takes_long_is_known_by_its_header() -> None:
    small, large = encode(photo(640, 480)), encode(photo(1600, 1200))
    reencode = KeepConfig(mode="reencode")
    assert is_quick(small, reencode) and not is_quick(large, reencode)
    assert is_quick(large, KeepConfig()) and not is_quick(encode(photo(1600, 1200), "PNG"), KeepConfig())
    assert not is_quick(encode(photo(640, 480), progressive=True), reencode)
    assert is_quick(b"no image", reencode)
