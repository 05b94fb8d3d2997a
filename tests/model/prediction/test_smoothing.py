from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from handface.model.prediction.smoothing import OneEuro, OneEuroConfig, OneEuroRotations

RATE = 30.0


@settings(max_examples=30, deadline=None)
@given(st.floats(-100, 100), st.integers(2, 20))
def test_a_constant_stays_itself_from_the_first_frame_on(value, frames):
    smooth = OneEuro()
    for k in range(frames):
        assert smooth(np.array([value, -value]), k / RATE) == pytest.approx([value, -value], abs=1e-9)


def test_the_published_recurrence_on_a_scalar():
    config = OneEuroConfig(min_cutoff=1.0, beta=0.2, speed_cutoff=1.5)
    values, times = [1.0, 2.0, 1.5, 4.0], [0.0, 0.1, 0.15, 0.35]

    def weight(cutoff, step):
        return 1 / (1 + 1 / (2 * np.pi * cutoff) / step)  # alpha = 1 / (1 + tau / Te), Casiez et al.

    expected, speed = [values[0]], 0.0
    for before, value, step in zip(values, values[1:], np.diff(times), strict=False):
        speed += weight(1.5, step) * ((value - before) / step - speed)
        alpha = weight(1.0 + 0.2 * abs(speed), step)
        expected.append(alpha * value + (1 - alpha) * expected[-1])
    smooth = OneEuro(config)
    assert [float(smooth(np.array([v]), t)[0]) for v, t in zip(values, times, strict=True)] == pytest.approx(expected)


def test_noise_shrinks_and_a_fast_move_hardly_lags():
    rng = np.random.default_rng(0)
    still = rng.normal(0, 0.01, (300, 1))
    smooth = OneEuro(OneEuroConfig(1.0, 1.0))
    calm = np.array([smooth(value, k / RATE) for k, value in enumerate(still)])
    assert calm[50:].std() < 0.5 * still.std()
    times = np.arange(60) / RATE
    fast, slow = OneEuro(OneEuroConfig(1.0, 1.0)), OneEuro(OneEuroConfig(1.0, 0.0))
    lag_fast, lag_slow = (
        10 * times[-1] - [float(one(np.array([10 * t]), t)[0]) for t in times][-1] for one in (fast, slow)
    )
    assert lag_fast < 0.25 * lag_slow


def test_all_entries_share_one_cut_off_so_that_a_mesh_is_not_torn():
    smooth = OneEuro(OneEuroConfig(1.0, 5.0))
    mesh = np.array([[0.0, 0, 0], [1.0, 0, 0]])
    smooth(mesh, 0.0)
    moved = smooth(mesh + [[1.0, 0, 0], [0.5, 0, 0]], 0.1)
    shares = (moved - mesh)[:, 0] / [1.0, 0.5]
    assert shares[0] == pytest.approx(shares[1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_rotations_cross_the_half_turn_without_a_jump(seed):
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    smooth = OneEuroRotations(OneEuroConfig(1.5, 0.5))
    last = None
    for k, angle in enumerate(np.linspace(np.pi - 0.5, np.pi + 0.5, 30)):
        value = Rotation.from_rotvec(axis * angle).as_rotvec()  # flips its sign at pi
        now = Rotation.from_rotvec(smooth(value, k / RATE))
        assert (now.inv() * Rotation.from_rotvec(value)).magnitude() < 0.3
        if last is not None:
            assert (last.inv() * now).magnitude() < 0.06
        last = now


def test_rotations_equal_the_plain_filter_about_one_axis():
    plain, rotations = OneEuro(), OneEuroRotations()
    for k, angle in enumerate([0.1, 0.3, 0.2, 0.6]):
        expected = plain(np.array([angle]), k / RATE)
        found = rotations(np.array([0, angle, 0]), k / RATE)
        assert found == pytest.approx([0, expected[0], 0], abs=1e-9)


@pytest.mark.parametrize("smooth", [OneEuro(), OneEuroRotations()])
def test_time_must_go_on(smooth):
    smooth(np.zeros(3), 1.0)
    with pytest.raises(ValueError, match="in order of time"):
        smooth(np.zeros(3), 1.0)
