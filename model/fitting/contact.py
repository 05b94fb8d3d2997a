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
# `contact_features`. How exactly a fit places the hand is in these numbers: some 15 mm.
_WEIGHTS = {"hand": (0.515, 0.314, 0.008, 1.954, -1.734), "head": (0.168, 0.558, -0.061, 1.193, -0.815)}


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
    """(V,) of a `hand` or `head` that touches: over 0.5 where its vertices are taken to be in contact. guess, gap: as above.

    None are without any guess.
    """
    near = gap < CONTACT_REACH
    if not (near.any() and guess.any()):
        return np.zeros(len(guess), np.float32)
    score = contact_features(guess, gap) @ np.array(_WEIGHTS[kind])
    score -= cut(score[near])
    return np.where(near, 1 / (1 + np.exp(-score)), 0).astype(np.float32)


def cut(score: Array) -> float:
    """Score between a person's vertices that are taken to be in contact and the others, so that the expected F1 is best. score: (N,) logits.

    Of the k likeliest vertices of N it is about 2 (p1 + ... + pk) / (k + p1 + ... + pN).
    """
    ordered = np.sort(score)[::-1]
    probability = 1 / (1 + np.exp(-ordered))
    expected = np.cumsum(probability) / (np.arange(1, len(ordered) + 1) + probability.sum())
    last = int(expected.argmax())
    return float(ordered[last : last + 2].mean()) if last + 1 < len(ordered) else float(ordered[last]) - 1


def in_contact(probability: Floats, touching: NDArray[np.bool_]) -> Floats:
    """The same, with what touches taken to be in contact. probability, touching: (V,)."""
    return np.where(touching, np.maximum(probability, _TOUCHING), probability).astype(np.float32)
