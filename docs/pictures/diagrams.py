"""Draws the diagrams of docs/architecture.md: `python docs/pictures/diagrams.py` writes the SVG files beside itself."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent
STEP, WIDTH, HEIGHT, MARGIN = 206, 176, 64, 20
COLOURS = {"data": "#e8f0fe", "step": "#ffffff", "net": "#fdf0dc", "disk": "#e6f4ea"}


@dataclass(frozen=True)
class Box:
    """A box in the grid.

    Attributes:
        at: column and row.
        title: first line.
        text: second and third line.
        kind: a key of `COLOURS`.
    """

    at: tuple[float, float]
    title: str
    text: tuple[str, ...] = ()
    kind: str = "step"

    @property
    def corner(self) -> tuple[float, float]:
        """Left upper corner, in pixels."""
        return MARGIN + self.at[0] * STEP, MARGIN + self.at[1] * (HEIGHT + 46)


def draw(boxes: dict[str, Box], arrows: list[tuple[str, str]], title: str) -> str:
    """An SVG of boxes and arrows between them."""
    width = max(box.corner[0] for box in boxes.values()) + WIDTH + MARGIN
    height = max(box.corner[1] for box in boxes.values()) + HEIGHT + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'font-family="sans-serif" role="img" aria-label="{escape(title)}">',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
    ]
    for start, end in arrows:
        (x0, y0), (x1, y1) = _ends(boxes[start], boxes[end])
        parts.append(f'<path d="M{x0:.0f} {y0:.0f}L{x1:.0f} {y1:.0f}" stroke="#555" fill="none" marker-end="url(#a)"/>')
    for box in boxes.values():
        x, y = box.corner
        parts.append(
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{COLOURS[box.kind]}" stroke="#777"/>'
        )
        top = y + HEIGHT / 2 + 5 - 8 * len(box.text)
        for line, (text, size, weight) in enumerate([(box.title, 14, "bold"), *((t, 11, "normal") for t in box.text)]):
            parts.append(
                f'<text x="{x + WIDTH / 2:.0f}" y="{top + 16 * line:.0f}" text-anchor="middle" font-size="{size}" '
                f'font-weight="{weight}" fill="#222">{escape(text)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ends(start: Box, end: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow leaves one box and meets the other: on the facing sides."""
    (x0, y0), (x1, y1) = start.corner, end.corner
    if start.at[1] == end.at[1]:
        right = x1 > x0
        return (x0 + WIDTH * right, y0 + HEIGHT / 2), (x1 + WIDTH * (not right), y1 + HEIGHT / 2)
    down = y1 > y0
    return (x0 + WIDTH / 2, y0 + HEIGHT * down), (x1 + WIDTH / 2, y1 + HEIGHT * (not down))


SHARD = (
    {
        "inputs": Box((0, 0), "inputs", ("folders, lists, tars,", "videos, crawled pictures"), "data"),
        "units": Box((1, 0), "work units", ("planned once,", "the same on every run")),
        "read": Box((2, 0), "read, decode", ("checked, upright, RGB;", "web pictures by the crawler")),
        "dedupe": Box((3, 0), "dedupe, quality", ("near copies, drawings,", "blurred pictures go")),
        "detect": Box((3, 1), "detect", ("faces and hands", "MediaPipe's networks"), "net"),
        "contact": Box((2, 1), "contact", ("does this hand", "touch this face?")),
        "crop": Box((1, 1), "crop", ("one square picture", "of hand and face")),
        "labels": Box((0, 1), "keypoints, depth", ("89 points; mmpose and", "Depth Anything if asked"), "net"),
        "part": Box((0, 2), "part", ("one tar of samples, one table", "of all inputs, one manifest"), "disk"),
        "export": Box((1, 2), "export", ("shuffled shards, splits,", "licences, card, takedown"), "disk"),
    },
    [
        ("inputs", "units"),
        ("units", "read"),
        ("read", "dedupe"),
        ("dedupe", "detect"),
        ("detect", "contact"),
        ("contact", "crop"),
        ("crop", "labels"),
        ("labels", "part"),
        ("part", "export"),
    ],
    "The way of a picture to a shard",
)

LOSS = (
    {
        "shards": Box((0, 0), "shards", ("Decaf, synthetic scenes,", "wild pictures"), "disk"),
        "loader": Box((1, 0), "loader", ("weighted mix, augmented,", "left hands mirrored")),
        "network": Box((2, 0), "DICE network", ("backbone, two branches:", "meshes; contact, deformation"), "net"),
        "bodies": Box((3, 0), "bodies", ("parameters -> hand", "and head meshes")),
        "labelled": Box((1, 1), "labels that exist", ("each sample has a mask", "for each kind of label")),
        "losses": Box((2, 1), "losses", ("vertices, keypoints, depth,", "contact, touch, collision")),
        "priors": Box((3, 1), "adversarial priors", ("real hand and face", "parameters"), "net"),
        "step": Box((2, 2), "one step", ("same for one process,", "torchrun and Ray Train")),
        "run": Box((3, 2), "run folder", ("checkpoints, best, log,", "exact resume"), "disk"),
    },
    [
        ("shards", "loader"),
        ("loader", "network"),
        ("network", "bodies"),
        ("loader", "labelled"),
        ("labelled", "losses"),
        ("bodies", "priors"),
        ("network", "losses"),
        ("priors", "losses"),
        ("losses", "step"),
        ("step", "run"),
    ],
    "The way of a sample to a loss",
)

if __name__ == "__main__":
    for name, diagram in (("shard", SHARD), ("loss", LOSS)):
        (FOLDER / f"{name}.svg").write_text(draw(*diagram))
