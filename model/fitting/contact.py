"""Which vertices are in contact once a fit is done: the surfaces' gap and the network's guess together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from handface.model.prediction.prediction import Floats

Array = NDArray[np.float64]
CONTACT_REACH = 0.025  # metres to the other surface's nearest vertex within which a vertex may be in contact
_HIGHEST = 10  # vertices whose mean guess is a person's own yardstick
_GAP = 6.0  # millimetres
_TOUCHING = 0.52  # probability of what touches at least: just over the threshold of contact
# Logistic regression on the guesses of dice-m for synthetic scenes (`benchmarks.model.fit_contact`), one weight per column of
# `contact_features`; the constant is such that F1 is best at 0.5. How exactly a fit places the hand is in these numbers: some 15 mm.
_WEIGHTS = {"hand": (0.517, 0.311, 0.009, 1.984, -0.503), "head": (0.168, 0.555, -0.061, 1.204, 0.927)}


def contact_features(guess: Floats, gap: Array) -> Array:
    """(V, 5): the network's logit, the same less that of the person's likeliest vertices, gap in mm, exp(-gap / 6 mm), 1.

    guess: (V,) the network's probabilities.  gap: (V,) metres to the other surface's nearest vertex, inf: farther than `CONTACT_REACH`.
    """
    known = np.clip(np.nan_to_num(guess.astype(np.float64)), 1e-4, 1 - 1e-4)
    logit = np.log(known / (1 - known))
    highest = np.partition(logit, -_HIGHEST)[-_HIGHEST:].mean()
    millimetres = 1000 * np.minimum(gap, CONTACT_REACH)
    return np.stack([logit, logit - highest, millimetres, np.exp(-millimetres / _GAP), np.ones_like(logit)], 1)


def contact_probability(kind: str, guess: Floats, gap: Array) -> Floats:
    """Probability (V,) of a `hand`'s or `head`'s vertices. guess, gap: as above."""
    score = contact_features(guess, gap) @ np.array(_WEIGHTS[kind])
    return np.where(gap < CONTACT_REACH, 1 / (1 + np.exp(-score)), 0).astype(np.float32)


def in_contact(probability: Floats, touching: NDArray[np.bool_]) -> Floats:
    """The same, with what touches taken to be in contact. probability, touching: (V,)."""
    return np.where(touching, np.maximum(probability, _TOUCHING), probability).astype(np.float32)
