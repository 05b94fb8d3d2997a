"""Learns when hand and face touch, from the network's guesses and the detector's points: the weights of `model/fitting/presence.py`.

python -m benchmarks.model.fit_presence --synthetic out/open79 out/studio78 out/seed77
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import tyro

from benchmarks.model.fit import _predictor, _samples, auc, compare
from handface.model.fitting.presence import presence_features
from handface.model.prediction.prediction import NobodyFoundError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handface.model.prediction.predictor import Predictor

_SHRINK = 0.01  # of the squared weights, in units in which the mean feature is 1


@dataclass(frozen=True)
class Config:
    """What is learned from."""

    synthetic: tuple[str, ...]
    """Folders of synthetic shards that no network was trained on."""
    model: str = "dice-m"
    """Network whose guesses are read."""
    limit: int = 400
    """Samples per folder at most."""


@dataclass(frozen=True)
class People:
    """features: (N, 4).  touch: (N,) whether hand and face truly touch."""

    features: NDArray[np.float64]
    touch: NDArray[np.bool_]


def main(config: Config) -> None:
    """Print the weights learned from all folders, and for each folder how well those of the others do."""
    torch.set_num_threads(1)
    predictor = _predictor(config.model)
    predictor.fitter = None
    sets = {Path(folder).name: read(predictor, folder, config.limit) for folder in config.synthetic}
    for name, people in sets.items():
        others = [other for other in sets.values() if other is not people] or [people]
        scores = people.features @ learn(others)
        right = 100 * ((scores > 0) == people.touch).mean()
        print(f"{name}: {len(scores)} people, AUC {auc(list(scores), list(people.touch)):.3f}, {right:.1f} % right")
    print("weights", ", ".join(f"{weight:.3f}" for weight in learn(list(sets.values()))))


def read(predictor: Predictor, folder: str, limit: int) -> People:
    """What is known of the people in a folder's pictures, and the truth."""
    features, touch = [], []
    for _, image, labels in _samples(folder, limit):
        try:
            people = predictor.predict(image).persons
        except NobodyFoundError:
            continue
        if people and labels is not None:
            person = people[0]
            assert person.detection is not None
            features.append(presence_features(person.presence, person.head.contact, person.detection))
            touch.append(compare(person, labels)["true_touch"] > 0)
    return People(np.array(features), np.array(touch))


def learn(sets: list[People]) -> NDArray[np.float64]:
    """Weights (4,) of the likeliest logistic regression, slightly shrunk."""
    from scipy.optimize import minimize

    x, y = np.concatenate([one.features for one in sets]), np.concatenate([one.touch for one in sets])
    unit = np.abs(x).mean(0)
    x = x / unit

    def loss(weights: NDArray[np.float64]) -> float:
        z = x @ weights
        return float((np.logaddexp(0, z) - y * z).mean() + _SHRINK * (weights[:-1] @ weights[:-1]))

    return np.asarray(minimize(loss, np.zeros(x.shape[1])).x / unit)


if __name__ == "__main__":
    main(tyro.cli(Config))
