"""How the free head yields to the free hand: `model/fitting/flesh.py` with the bodies of synthesis, made once per process."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from handface.model.fitting.flesh import Flesh, Touch, measure_touch
from handface.pipeline.synthesis.person.bodies import free_hand, free_head

Array = NDArray[np.float64]


@cache
def face_flesh() -> Flesh:
    """The free head's flesh."""
    return Flesh.of(free_head().arrays)


def yield_to(head: Array, hand: Array) -> Array:
    """Displacement (V, 3) of the head's vertices (V, 3) that makes room for the hand's (H, 3), metres."""
    return face_flesh().yield_to(head, hand)


def measure(head: Array, hand: Array, *, mirrored_hand: bool = False) -> Touch:
    """Measure the touch of deformed head (V, 3) and hand (H, 3). mirrored_hand: a left one, its triangles turned over."""
    faces = free_hand().closed_faces
    cavity = free_head().arrays.masks["cavity"] > 0.5
    return measure_touch(head, hand, free_head().closed_faces, faces[:, ::-1] if mirrored_hand else faces, cavity)
