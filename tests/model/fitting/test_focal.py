"""The focal length that is assumed where none is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from handface.model.fitting.config import FitConfig
from handface.model.fitting.people import assume_focal
from handface.model.prediction.prediction import Detection


def face_of(size: float) -> Detection:
    """A face `size` pixels high."""
    points = np.ones((68, 3), np.float32)
    points[:, 1] = np.linspace(100, 100 + size, 68)
    return Detection(points, np.ones((21, 3), np.float32), "right", 0.9)


def test_it_grows_with_the_face_and_stays_that_of_a_camera() -> None:
    config = FitConfig()
    usual = 1.2 * 1000 / 0.9 * 0.14  # the size at which the usual camera sees a face of 14 cm from 90 cm
    assert assume_focal(face_of(usual), 1000, config) == pytest.approx(1200, rel=1e-3)
    assert assume_focal(face_of(4 * usual), 1000, config) == pytest.approx(2400, rel=1e-3)
    assert assume_focal(face_of(5), 1000, config) == 700
    focals = [assume_focal(face_of(size), 1000, config) for size in (20, 100, 300, 900)]
    assert focals == sorted(focals) and focals[-1] <= 4000


def test_unknown_points_say_nothing() -> None:
    one = face_of(200)
    spoilt = one.face.copy()
    spoilt[3, :2], spoilt[5] = np.nan, (9999, 9999, 0)
    assert assume_focal(replace(one, face=spoilt), 1000, FitConfig()) == assume_focal(one, 1000, FitConfig())
    assert assume_focal(replace(one, face=spoilt * [1, 1, 0]), 1000, FitConfig()) == 1200
