"""Colours of parts, contact and deformation: as ramps, as textures for the renderer, and per vertex."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.prediction.prediction import Floats
from handface.model.render import Texture
from handface.model.render.texture import to_linear

_STEPS = 256


@dataclass(frozen=True)
class Ramp:
    """Colours along [0, 1], sRGB bytes, evenly spaced stops."""

    stops: tuple[tuple[int, int, int], ...]

    def colours(self, values: Floats) -> NDArray[np.uint8]:
        """(...,) in [0, 1], others clipped, NaN as 0 -> (..., 3) sRGB bytes."""
        places = np.linspace(0, 1, len(self.stops))
        known = np.nan_to_num(np.clip(values, 0, 1), nan=0.0)
        channels = [np.interp(known, places, [stop[channel] for stop in self.stops]) for channel in range(3)]
        return np.rint(np.stack(channels, -1)).astype(np.uint8)

    def texture(self) -> Texture:
        """The ramp from left to right: u = value."""
        middles = ((np.arange(_STEPS) + 0.5) / _STEPS).astype(np.float32)
        return Texture(to_linear(self.colours(middles))[None])


# The same end for both parts, so that touching skin is seen at once; probability in between is mixed.
CONTACT = (214, 24, 92)
HAND = Ramp(((226, 164, 108), (226, 164, 108), CONTACT))
HEAD = Ramp(((128, 163, 198), (128, 163, 198), CONTACT))
PROBABILITY = Ramp(((214, 214, 210), (240, 176, 92), CONTACT))
DEFORMATION = Ramp(((214, 214, 210), (86, 160, 196), (58, 26, 120)))


def ramp_uv(values: Floats) -> NDArray[np.float32]:
    """Where a ramp's texture has these values, (V, 2). values: (V,) in [0, 1]."""
    known = np.nan_to_num(np.clip(values, 0, 1), nan=0.0)
    return np.stack([known, np.full_like(known, 0.5)], -1).astype(np.float32)
