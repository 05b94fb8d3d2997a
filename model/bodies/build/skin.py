"""Texture atlas data for drawing skin: region masks and fine detail, in the atlas that hand, head, bust and forearm share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.build.region import part_of_quads
from handface.model.bodies.build.wheel import HumanData

SIZE = 1024
_MASKS = {
    "lips": "mpfb_lips.jpg",
    "eyelids": "mpfb_eyelids.jpg",
    "ears": "mpfb_ears.jpg",
    "face": "mpfb_face.jpg",
    "mouth_inside": "mpfb_inside-mouth.jpg",
    "nails": "mpfb_fingernails.jpg",
}
_DETAIL = "sss.png"
_NOISE = 6  # JPEG ringing around black


def build_skin(human: HumanData) -> dict[str, NDArray[np.uint8]]:
    """name -> (SIZE, SIZE) uint8, row 0 at v = 1: the masks, and `detail`, whose dark lines are the creases of face and palms."""
    maps = {name: _shrink(human.texture(texture)) for name, texture in _MASKS.items()}
    maps = {name: np.where(image < _NOISE, 0, image).astype(np.uint8) for name, image in maps.items()}
    detail = _shrink(human.texture(_DETAIL))
    shown = _shrink(_drawn_texels(human) * np.uint8(255)) > 0
    return maps | {"detail": np.where(shown, detail, np.median(detail)).astype(np.uint8)}


def _shrink(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Box filter to SIZE x SIZE."""
    factor = image.shape[0] // SIZE
    blocks = image.reshape(SIZE, factor, SIZE, factor).astype(np.float32)
    return blocks.mean((1, 3)).round().astype(np.uint8)


def _drawn_texels(human: HumanData) -> NDArray[np.bool_]:
    """Texels in the bounding boxes of the quads of head and hands, (H, W): the rest of the body needs no detail."""
    height, width = human.texture(_DETAIL).shape
    drawn = np.zeros((height, width), bool)
    quads = np.isin(part_of_quads(human), ("head", "hand.R", "hand.L")) & (human.group == "body")
    corners = human.uv[human.quad_uv[quads]]
    low, high = corners.min(1), corners.max(1)
    for (u0, v0), (u1, v1) in zip(low, high, strict=True):
        drawn[int((1 - v1) * height) : int((1 - v0) * height) + 2, int(u0 * width) : int(u1 * width) + 2] = True
    return drawn
