"""Learns how much the network's guess and the fitted surfaces' gap say of contact: the constants of `model/fitting/contact.py`.

python -m benchmarks.model.fit_contact --synthetic out/open511 out/studio512 --check out/open42 out/studio41
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import tyro

from benchmarks.model.fit import Seen, _predictor, _samples, f1, look
from handface.model.fitting.contact import CONTACT_REACH, contact_features, cut
from handface.model.fitting.distance import nearest_vertex

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["hand", "head"]


@dataclass(frozen=True)
class Config:
    """What is learned from, and what it is checked on."""

    synthetic: tuple[str, ...]
    """Folders of synthetic shards."""
    check: tuple[str, ...]
    """Others, of other seeds."""
    model: str = "dice-m"
    """Network whose guess is fitted; the weights are only good for one that guesses alike."""
    limit: int = 400
    """Samples per folder at most."""


@dataclass(frozen=True)
class Vertices:
    """One person's part that is in contact somewhere. features: (V, 5).  near: (V,) within reach.  true: (V,) bool."""

    features: NDArray[np.float64]
    near: NDArray[np.bool_]
    true: NDArray[np.bool_]


def main(config: Config) -> None:
    """Print the weights and the F1 that they reach."""
    predictor = _predictor(config.model)
    seen = {
        folder: list(look(predictor, _samples(folder, config.limit))) for folder in (*config.synthetic, *config.check)
    }
    kinds: tuple[Kind, ...] = ("hand", "head")
    for kind in kinds:
        known = {folder: list(vertices(people, kind)) for folder, people in seen.items()}
        learned = [one for folder in config.synthetic for one in known[folder]]
        weights = learn(learned)
        values = ", ".join(f"{value:.3f}" for value in weights)
        checked = ", ".join(f"{score(known[folder], weights):.1f} % on {folder}" for folder in config.check)
        print(f"{kind}: ({values})  F1 {score(learned, weights):.1f} %, {checked}")


def vertices(people: list[Seen], kind: Kind) -> Iterator[Vertices]:
    """What is known of each person's vertices, and the truth."""
    for one in people:
        assert one.truth is not None
        part, other = (one.fitted.hand, one.fitted.head) if kind == "hand" else (one.fitted.head, one.fitted.hand)
        packed = one.truth.hand_contact if kind == "hand" else one.truth.head_contact
        true = np.unpackbits(packed)[: len(part.vertices)].astype(bool)
        if true.any():
            gap = nearest_vertex(part.vertices, other.vertices, CONTACT_REACH)
            guess = one.bare.hand.contact if kind == "hand" else one.bare.head.contact
            yield Vertices(contact_features(guess, gap), np.isfinite(gap), true)


def learn(people: list[Vertices]) -> NDArray[np.float64]:
    """Weights (5,) of the likeliest logistic regression on vertices within reach."""
    from scipy.optimize import minimize

    x = np.concatenate([one.features[one.near] for one in people])
    y = np.concatenate([one.true[one.near] for one in people]).astype(np.float64)
    unit = np.abs(x).mean(0)
    x /= unit

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = x @ weights
        cost = (np.logaddexp(0, z) - y * z).mean() + 1e-6 * (weights @ weights)
        return float(cost), x.T @ (1 / (1 + np.exp(-z)) - y) / len(y) + 2e-6 * weights

    found: NDArray[np.float64] = minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x / unit
    return found


def score(people: list[Vertices], weights: NDArray[np.float64]) -> float:
    """Mean F1 in %, each person's vertices parted where `cut` says."""
    found = []
    for one in people:
        logit = one.features @ weights
        found.append(f1(one.near & (logit > cut(logit[one.near])) if one.near.any() else one.near, one.true))
    return 100 * float(np.mean(found))


if __name__ == "__main__":
    main(tyro.cli(Config))
