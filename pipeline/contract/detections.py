"""What is seen in one image: faces and hands with their 2D keypoints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Side = Literal["left", "right"]


@dataclass(frozen=True)
class Face:
    """One face in image pixels (pixel centres at integers).

    keypoints: (68, 3) float32 x, y, confidence, iBUG order.  mesh: (478, 3) float32 x, y and relative z in pixels
    (smaller is nearer), or None where the detector has no mesh.  box: x0, y0, x1, y1.  score in [0, 1].
    """

    box: tuple[float, float, float, float]
    score: float
    keypoints: NDArray[np.float32]
    mesh: NDArray[np.float32] | None = None
    found_by: str = "whole"  # which pass found it

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True)
class Hand:
    """One hand in image pixels.

    keypoints: (21, 3) float32 x, y, confidence, MediaPipe order.  z: (21,) float32 relative depth in pixels, 0 at the
    wrist, smaller is nearer, or None.  side: the person's own left or right.  score in [0, 1].
    """

    keypoints: NDArray[np.float32]
    side: Side
    score: float
    side_score: float = 1.0
    z: NDArray[np.float32] | None = None
    world: NDArray[np.float32] | None = None  # (21, 3) metres about the hand's centre, camera axes
    found_by: str = "whole"
    agreement: float | None = None  # of two passes or detectors, 1 = same points, 0 = disjoint
    palm_score: float | None = None  # of the palm detector, the surest view; None where it did not look

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 around the 21 points."""
        low, high = self.keypoints[:, :2].min(0), self.keypoints[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])


@dataclass(frozen=True)
class Detections:
    """All faces and hands of one image."""

    faces: tuple[Face, ...] = ()
    hands: tuple[Hand, ...] = ()
