"""One person's contact and deformation as a picture: head, hand, and both from the side, each with its colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.outputs.banner import with_banner, write_words
from handface.model.outputs.colours import DEFORMATION, HAND, HEAD, PROBABILITY, Ramp
from handface.model.outputs.draw import draw_over, ramp_mesh
from handface.model.prediction.prediction import Floats, Part, Person
from handface.model.render import Mesh, WeakPerspectiveCamera

Image = NDArray[np.uint8]
Turn = NDArray[np.float32]
_BACK, _INK = (250, 250, 248), (52, 54, 58)
_MARGIN = 0.06  # of a cell, around what is drawn
_DEFORMATION = (
    0.010  # metres at the end of the colour bar, of every photo, so that they can be compared; more looks the same
)
# Looking along +z is the photo's view. The others turn about the vertical: to the hand's far side, and a quarter.
FRONT = np.eye(3, dtype=np.float32)
BEHIND = np.diag([-1.0, 1.0, -1.0]).astype(np.float32)
SIDE = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)


@dataclass(frozen=True)
class _Cell:
    """One view. parts: (vertices, faces, values, ramp) of what is in it.  bar: labels of 0 and 1 of the ramp; None for no bar."""

    title: str
    turn: Turn
    parts: Sequence[tuple[Part, Floats, Ramp]]
    bar: tuple[str, str] | None = None


def draw_contact_map(person: Person, trained: bool, cell: int = 320) -> Image:
    """Five views in a row, RGB uint8 (about 1.3 cell, 5 cell, 3), under a banner if the network is untrained.

    Head and hand by contact probability (the hand from both sides, for what touches faces away), the head by deformation
    |d| in mm, both parts from the side. cell: pixels per view, at least 96.
    """
    if cell < 96:
        raise ValueError(f"cell is {cell}; views need at least 96 pixels")
    hand, head = person.hand, person.head
    moved = np.linalg.norm(head.deformation, axis=1)
    cells = (
        _Cell("head, contact", FRONT, [(head, head.contact, PROBABILITY)], ("0", "1")),
        _Cell("hand, contact", FRONT, [(hand, hand.contact, PROBABILITY)], ("0", "1")),
        _Cell("hand from behind", BEHIND, [(hand, hand.contact, PROBABILITY)], ("0", "1")),
        _Cell(
            "head, deformation",
            FRONT,
            [(head, moved / _DEFORMATION, DEFORMATION)],
            ("0", f"{1000 * _DEFORMATION:.0f} mm"),
        ),
        _Cell("from the side", SIDE, [(head, head.contact, HEAD), (hand, hand.contact, HAND)]),
    )
    picture = np.concatenate([_draw_cell(one, cell) for one in cells], axis=1)
    return picture if trained else with_banner(picture)


def fit_camera(meshes: Sequence[Mesh], size: int) -> WeakPerspectiveCamera:
    """A camera that sees all of the meshes in a square of `size` pixels."""
    points = np.concatenate([mesh.vertices for mesh in meshes])[:, :2]
    low, high = points.min(0), points.max(0)
    scale = (1 - 2 * _MARGIN) * size / max(float((high - low).max()), 1e-6)
    x, y = ((size - 1) / 2 - scale * (low + high) / 2).tolist()
    return WeakPerspectiveCamera(scale, (x, y), size, size)


def _draw_cell(cell: _Cell, size: int) -> Image:
    foot = round(0.26 * size)
    canvas = np.full((size, size, 3), _BACK, np.uint8)
    drawn = None
    if all(np.isfinite(part.vertices).all() for part, *_ in cell.parts):
        meshes = [ramp_mesh(part.vertices @ cell.turn.T, part.faces, values, ramp) for part, values, ramp in cell.parts]
        drawn = draw_over(canvas, meshes, fit_camera(meshes, size), 1.0)
    letters = size / 12  # still read where the whole row is as wide as a phone
    words = [((size / 2, 1.06 * size), cell.title, letters)]
    if drawn is None:
        words.append(((size / 2, size / 2), "cannot be drawn", letters))
    canvas = np.concatenate([canvas if drawn is None else drawn, np.full((foot, size, 3), _BACK, np.uint8)])
    if cell.bar is not None:
        ramp = cell.parts[0][2]
        left, right, top, bottom = (round(k * size) for k in (0.2, 0.68, 1.15, 1.2))
        canvas[top:bottom, left:right] = ramp.colours(np.linspace(0, 1, right - left, dtype=np.float32))
        words += [
            ((0.13 * size, 1.18 * size), cell.bar[0], letters),
            ((0.84 * size, 1.18 * size), cell.bar[1], letters),
        ]
    return write_words(canvas, words, _INK)
