"""Draws people from the morph targets and sums their variety up in a linear basis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.build.region import SurfaceRegion
from handface.model.bodies.build.wheel import HumanData

_GENDERS, _AGES = ("female", "male"), ("young", "old")
_MUSCLE = ("minmuscle", "averagemuscle", "maxmuscle")
_WEIGHT = ("minweight", "averageweight", "maxweight")
_RACES = ("african", "asian", "caucasian")
_OPPOSITE = {
    "incr": "decr",
    "up": "down",
    "out": "in",
    "forward": "backward",
    "convex": "concave",
    "uncompress": "compress",
}


@dataclass(frozen=True)
class Axis:
    """One signed local change: `positive` at +1, `negative` (may be absent) at -1."""

    positive: str
    negative: str | None


class Probe:
    """The points a body needs: a region's vertices, then the means of its joint cubes. displacement -> (V + J, 3)."""

    def __init__(self, human: HumanData, region: SurfaceRegion, cubes: Sequence[str]) -> None:
        self.human, self.ids = human, region.vertex_ids
        self.cubes = [human.cube(name) for name in cubes]

    def __call__(self, field: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of a (N, 3) field over the base mesh at the points, (V + J, 3)."""
        return np.concatenate([field[self.ids], *(field[cube].mean(0, keepdims=True) for cube in self.cubes)])

    def target(self, name: str | None) -> NDArray[np.float64]:
        """A morph target at the points, (V + J, 3); zeros for None."""
        return self(np.zeros_like(self.human.vertices) if name is None else self.human.displacement(name))


class Macros:
    """The product-weighted body-type targets (gender, age, muscle, weight, race) at a probe's points."""

    def __init__(self, probe: Probe) -> None:
        names = [f"macrodetails/{r}-{g}-{a}" for g in _GENDERS for a in _AGES for r in _RACES]
        names += [
            f"macrodetails/universal-{g}-{a}-{m}-{w}" for g in _GENDERS for a in _AGES for m in _MUSCLE for w in _WEIGHT
        ]
        self.fields = np.stack([probe.target(name) for name in names])
        self.base = probe(probe.human.vertices)

    def __call__(
        self, gender: float, age: float, muscle: float, weight: float, race: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Points of one adult, (V + J, 3). Values in [0, 1]; age 0 young to 1 old; race: (3,) sums to 1."""
        person = np.outer([1 - gender, gender], [1 - age, age]).ravel()
        build = np.outer(_three(muscle), _three(weight)).ravel()
        coefficients = np.concatenate([np.outer(person, race).ravel(), np.outer(person, build).ravel()])
        return self.base + np.tensordot(coefficients, self.fields, 1)

    def average(self) -> NDArray[np.float64]:
        """The reference adult of the measurements: a mix of genders and races, a quarter of the way to old."""
        return self(0.5, 0.25, 0.5, 0.5, np.full(3, 1 / 3))

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Points of a random adult, (V + J, 3)."""
        return self(rng.beta(0.5, 0.5), rng.beta(0.7, 1.2), rng.beta(2, 2), rng.beta(2, 2), rng.dirichlet([0.4] * 3))


def _three(x: float) -> list[float]:
    """Weights of (min, average, max) at x in [0, 1]: a hat function."""
    return [max(0.0, 1 - 2 * x), 1 - abs(2 * x - 1), max(0.0, 2 * x - 1)]


def local_axes(targets: Sequence[str]) -> list[Axis]:
    """Pair opposite targets (incr/decr, up/down, ...) into signed axes, in the order of `targets`."""
    axes, used = [], set()
    for target in targets:
        if target in used:
            continue
        axis = Axis(target, None)
        for plus, minus in _OPPOSITE.items():
            for stem, word in ((target.removesuffix(f"-{plus}"), plus), (target.removesuffix(f"-{minus}"), minus)):
                pair = Axis(f"{stem}-{plus}", f"{stem}-{minus}")
                if target.endswith(f"-{word}") and pair.positive in targets and pair.negative in targets:
                    axis = pair
        used.update({axis.positive, axis.negative})
        axes.append(axis)
    return axes


class AxisFields:
    """Displacements of signed axes at a probe's points."""

    def __init__(self, probe: Probe, axes: Sequence[Axis]) -> None:
        self.one_sided = np.array([axis.negative is None for axis in axes])
        self.fields = np.stack([[probe.target(axis.positive), probe.target(axis.negative)] for axis in axes])

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the axes at `values` (A,) in [-1, 1], (V + J, 3)."""
        both = np.stack([np.clip(values, 0, 1), np.clip(-values, 0, 1)], 1)
        return np.tensordot(both, self.fields, 2)


def rigid_align(
    points: NDArray[np.float64], target: NDArray[np.float64], used: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Turn and move `points` (P, 3) so that the `used` ones (P,) lie on `target` (P, 3) in the least-squares sense (Kabsch)."""
    source_mean, target_mean = points[used].mean(0), target[used].mean(0)
    u, _, vt = np.linalg.svd((points[used] - source_mean).T @ (target[used] - target_mean))
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (points - source_mean) @ (u @ flip @ vt) + target_mean


def principal_components(samples: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PCA of centred samples (N, D): components scaled to one standard deviation (count, D), and their variances (count,).

    Through the Gram matrix, as N is far below D. The sign is fixed by a constant random direction so that rebuilds agree.
    """
    variances, vectors = np.linalg.eigh(samples @ samples.T / (len(samples) - 1))
    order = np.argsort(-variances)[:count]
    components = vectors[:, order].T @ samples / np.sqrt(len(samples) - 1)
    direction = np.random.default_rng(0).normal(size=samples.shape[1])
    components *= np.where(components @ direction < 0, -1.0, 1.0)[:, None]
    return components, variances[order]
