"""What MediaPipe means by its points, measured once on renders of these bodies by `benchmarks/model/fit_body_keypoints.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FITTED = Path(__file__).with_name("mediapipe_fit.json")


def read_fit() -> dict[str, Any]:
    """The fitted constants and the errors they were measured with."""
    fit: dict[str, Any] = json.loads(_FITTED.read_text())
    return fit


def landmark_keypoints() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The 68 iBUG landmarks: corner vertices of the head (68, 3) and barycentric weights (68, 3)."""
    landmarks = read_fit()["landmarks"]
    return np.array(landmarks["vertices"]), np.array(landmarks["weights"], float)


def hand_offsets() -> NDArray[np.float64]:
    """(21, 3) in palm lengths (wrist to middle knuckle): forward, across (index to pinky), out of the palm."""
    return np.array(read_fit()["hand"]["offsets"], float)
