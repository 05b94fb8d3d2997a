"""One-euro filters for video: heavy smoothing at rest, little lag in motion (Casiez, Roussel and Vogel, CHI 2012)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OneEuroConfig:
    """Cut-off = min_cutoff + beta |speed|, in Hz; speed in units per second of what is filtered."""

    min_cutoff: float = 1.5
    """At rest. Lower is calmer."""
    beta: float = 0.5
    """How much speed opens the filter. Higher lags less."""
    speed_cutoff: float = 1.0
    """Of the speed's own smoothing."""


class _Clock:
    """Seconds between calls; time must go forward."""

    def __init__(self) -> None:
        self._last: float | None = None

    def step(self, time: float) -> float | None:
        """Seconds since the call before, None at the first. Raises ValueError if time stands still or goes back."""
        last, self._last = self._last, time
        if last is not None and time <= last:
            raise ValueError(f"frames must come in order of time, but {time:.3f} s follows {last:.3f} s")
        return None if last is None else time - last


class OneEuro:
    """Filters an array of any shape. The first value comes back as it is.

    All its entries share one cut-off, from their root mean square speed, so that a mesh is not torn.
    unit: the size of a step that counts as 1 for the speed.
    """

    def __init__(self, config: OneEuroConfig = OneEuroConfig(), unit: float = 1.0) -> None:
        self.config, self.unit = config, unit
        self._clock = _Clock()
        self._raw = self._smooth = self._velocity = np.zeros(0)

    def __call__(self, value: NDArray[np.floating], time: float) -> Array:
        """Value at `time` (seconds, increasing) -> smoothed value of the same shape."""
        new = np.asarray(value, np.float64)
        step = self._clock.step(time)
        if step is None:
            self._raw, self._smooth, self._velocity = new, new, np.zeros_like(new)
            return new
        velocity = (new - self._raw) / step
        self._velocity = self._velocity + _weight(self.config.speed_cutoff, step) * (velocity - self._velocity)
        speed = float(np.sqrt(np.mean(np.square(self._velocity)))) / self.unit if new.size else 0.0
        self._raw = new
        self._smooth = self._smooth + _weight(_cutoff(self.config, speed), step) * (new - self._smooth)
        return self._smooth


class OneEuroRotations:
    """Filters axis-angle rotations (3 n,) on the sphere of rotations, so that the jump at a half turn is none. Speed in rad/s."""

    def __init__(self, config: OneEuroConfig = OneEuroConfig()) -> None:
        self.config = config
        self._clock = _Clock()
        self._raw = self._smooth = Rotation.identity(0)
        self._velocity: Array = np.zeros((0, 3))

    def __call__(self, value: NDArray[np.floating], time: float) -> Array:
        """(3 n,) axis-angle at `time` (seconds, increasing) -> smoothed, axis-angle of at most a half turn."""
        new = Rotation.from_rotvec(np.asarray(value, np.float64).reshape(-1, 3))
        step = self._clock.step(time)
        if step is None:
            self._raw, self._smooth, self._velocity = new, new, np.zeros((len(new), 3))
            return self._smooth.as_rotvec().ravel()
        velocity = (self._raw.inv() * new).as_rotvec() / step
        self._velocity = self._velocity + _weight(self.config.speed_cutoff, step) * (velocity - self._velocity)
        speed = np.linalg.norm(self._velocity, axis=1, keepdims=True)
        weight = _weight(_cutoff(self.config, speed), step)
        self._raw = new
        self._smooth = self._smooth * Rotation.from_rotvec(weight * (self._smooth.inv() * new).as_rotvec())
        return self._smooth.as_rotvec().ravel()


def _cutoff(config: OneEuroConfig, speed: float | Array) -> float | Array:
    return config.min_cutoff + config.beta * speed


def _weight(cutoff: float | Array, step: float) -> float | Array:
    """Share of the new value for a cut-off in Hz and a step in seconds: r / (1 + r), r = 2 pi cutoff step."""
    ratio = 2 * np.pi * cutoff * step
    return ratio / (1 + ratio)
