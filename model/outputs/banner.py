"""Words on pictures, and the strip over every picture of an untrained network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
BANNER = "UNTRAINED NETWORK: MESHES MEAN NOTHING"
_RED, _WHITE = (190, 0, 0), (255, 255, 255)
_MOST_SIZE = 40.0  # pixels; letters of larger banners would only take room


def with_banner(image: Image) -> Image:
    """(H, W, 3) RGB under a red strip that says the network is untrained; a few rows higher, the picture itself is untouched."""
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    width = image.shape[1]
    probe = ImageFont.load_default(100)
    size = min(_MOST_SIZE, 100 * 0.94 * width / probe.getlength(BANNER))
    strip = Pictures.new("RGB", (width, max(16, round(1.7 * size))), _RED)
    middle = (width / 2, strip.height / 2)
    ImageDraw.Draw(strip).text(middle, BANNER, _WHITE, ImageFont.load_default(size), anchor="mm")
    return np.concatenate([np.asarray(strip, np.uint8), image])


def write_words(
    image: Image, words: list[tuple[tuple[float, float], str, float]], colour: tuple[int, int, int]
) -> Image:
    """A copy with words on it: (middle x, y), text, height in pixels."""
    from PIL import Image as Pictures
    from PIL import ImageDraw, ImageFont

    picture = Pictures.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for place, text, size in words:
        draw.text(place, text, colour, ImageFont.load_default(size), anchor="mm")
    return np.asarray(picture, np.uint8)
