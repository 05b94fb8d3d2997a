"""One picture of a whole prediction: the overlay, and every person's contact map beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from handface.model.outputs.contact_map import draw_contact_map
from handface.model.outputs.overlay import OverlayConfig, draw_overlay
from handface.model.prediction.prediction import Prediction

if TYPE_CHECKING:
    from PIL.Image import Image

_BACK = 250  # level of the paper around the pictures
_LEAST_HEIGHT = 320  # pixels, so that the words under a contact map can be read


def plot_prediction(prediction: Prediction) -> Image:
    """Overlay left, contact maps of all people stacked right, as tall as the overlay. Raises ValueError without a picture."""
    from PIL import Image

    overlay = Image.fromarray(draw_overlay(picture_of(prediction), prediction, OverlayConfig()))
    height = max(overlay.height, _LEAST_HEIGHT * max(1, len(prediction.persons)))
    maps = [Image.fromarray(draw_contact_map(person, prediction.trained)) for person in prediction.persons]
    widths = [round(one.width * height / len(maps) / one.height) for one in maps]
    paper = Image.new("RGB", (overlay.width + max(widths, default=0), height), (_BACK,) * 3)
    paper.paste(overlay, (0, (height - overlay.height) // 2))
    for number, (one, width) in enumerate(zip(maps, widths, strict=True)):
        paper.paste(one.resize((width, height // len(maps))), (overlay.width, number * height // len(maps)))
    return paper


def picture_of(prediction: Prediction) -> NDArray[np.uint8]:
    """The picture a prediction kept. Raises ValueError if it kept none."""
    if prediction.image is None:
        raise ValueError(
            "this prediction holds no picture to draw over: predict with `handface.load().predict(photo)`,"
            " or set it: dataclasses.replace(prediction, image=pixels)"
        )
    return prediction.image
