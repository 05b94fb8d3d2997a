"""Points in one picture, moved into another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def move_points(points: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.float32]:
    """(N, C) x, y and further columns, which stay, through a (3, 3) affine matrix; computed in double precision."""
    moved = points.astype(np.float64)
    moved[:, :2] = moved[:, :2] @ matrix[:2, :2].T + matrix[:2, 2]
    return moved.astype(np.float32)
