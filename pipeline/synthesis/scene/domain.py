"""Where pictures seem to be taken: a narrow studio or the open world, so that what a network learns in one can be tried in the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DomainName = Literal["open", "studio"]


@dataclass(frozen=True)
class Domain:
    """Limits of what is drawn. Angles in degrees, distances in metres.

    tones: range of skin tones, 0 pale to 5 deep.  plain: a green screen and even light.  yaw: spread of the camera's angle.
    distance: nearest and farthest camera.
    """

    tones: tuple[float, float] = (0.0, 5.0)
    plain: bool = False
    yaw: float = 20.0
    distance: tuple[float, float] = (0.45, 1.2)


DOMAINS: dict[DomainName, Domain] = {
    "open": Domain(),
    "studio": Domain(tones=(0.5, 2.0), plain=True, yaw=12.0, distance=(0.9, 1.2)),
}
