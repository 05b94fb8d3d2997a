"""How many vertices, keypoints and parameters a hand and a head have, and the template the network's tokens start from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from handface.model.bodies import ParametricBody


class TopologyError(ValueError):
    """A body model and a network do not belong together; the message says in what they differ."""


@dataclass(frozen=True)
class PartSizes:
    """Sizes of one part.

    vertices: vertex count of each mesh level, full resolution first; tokens stand for the last.
    body, convention: what `load_body` was given; for messages and for posing the predicted parameters.
    keep: for each coarser level the vertices of the full mesh that it has; () where the body's own levels are meant.
    rest_sha256: of the full-resolution rest shape that the network was made for, "" in checkpoints that do not say.
    """

    vertices: tuple[int, ...]
    keypoints: int
    betas: int
    pose: int
    expression: int = 0
    body: str = ""
    convention: str = "decaf"
    keep: tuple[tuple[int, ...], ...] = ()
    rest_sha256: str = ""

    def load(self) -> ParametricBody:
        """The body, with the mesh levels that the network has. Raises BodyFileError or ValueError."""
        from handface.model.bodies import load_body

        body = load_body(self.body, self.convention)
        return body if not self.keep else body.with_levels(self.keep)

    def differences(self, other: PartSizes) -> list[str]:
        """`name mine != theirs` for every count that differs."""
        mine, theirs = self, other
        if self.keep:  # a selection of its own, which needs only the full mesh
            mine, theirs = (replace(part, vertices=part.vertices[:1]) for part in (self, other))
        names = ("vertices", "keypoints", "betas", "pose", "expression")
        return [
            f"{name} {getattr(mine, name)} != {getattr(theirs, name)}"
            for name in names
            if getattr(mine, name) != getattr(theirs, name)
        ]


@dataclass(frozen=True)
class Sizes:
    """Sizes of both parts."""

    hand: PartSizes
    head: PartSizes

    @property
    def groups(self) -> tuple[int, int, int, int]:
        """Tokens in order: hand keypoints, head keypoints, coarse hand vertices, coarse head vertices."""
        return (self.hand.keypoints, self.head.keypoints, self.hand.vertices[-1], self.head.vertices[-1])

    @property
    def tokens(self) -> int:
        """T, their sum."""
        return sum(self.groups)

    def with_bodies(self, other: Sizes) -> Sizes:
        """These sizes with the body files of `other`: the same bodies, wherever they are now."""
        return Sizes(replace(self.hand, body=other.hand.body), replace(self.head, body=other.head.body))

    def require(self, other: Sizes) -> None:
        """Raise TopologyError unless `other` has the same counts."""
        for part, mine, theirs in (("hand", self.hand, other.hand), ("head", self.head, other.head)):
            if differences := mine.differences(theirs):
                raise TopologyError(
                    f"the network was made for the {part} {mine.body or '(unnamed)'} but was given"
                    f" {theirs.body or '(unnamed)'}: {'; '.join(differences)}; give the body it was made for"
                )


@dataclass(frozen=True)
class UpStep:
    """Barycentric up-sampling by one level: fine = sum over 3 of weights * coarse[indices]. indices, weights: (fine, 3)."""

    indices: NDArray[np.int64]
    weights: NDArray[np.float64]
    coarse: int

    def dense(self) -> NDArray[np.float64]:
        """The same as a matrix, (fine, coarse)."""
        matrix = np.zeros((len(self.indices), self.coarse))
        np.add.at(matrix, (np.arange(len(self.indices))[:, None], self.indices), self.weights)
        return matrix


@dataclass(frozen=True)
class PartTopology:
    """Sizes of one part and its rest geometry, metres.

    keypoints: (K, 3) and coarse: (n, 3) of the template.  up: coarsest level first, one step per level; empty if unknown.
    pivot: (3,) the point of the template that global_orient turns about; the coarse vertices' mean if unknown.
    rest: (V, 3) all vertices of the template, if known.
    """

    sizes: PartSizes
    keypoints: NDArray[np.float64]
    coarse: NDArray[np.float64]
    up: tuple[UpStep, ...] = ()
    pivot: NDArray[np.float64] | None = None
    rest: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        for name, value, count in (
            ("keypoints", self.keypoints, self.sizes.keypoints),
            ("coarse", self.coarse, self.sizes.vertices[-1]),
        ):
            if value.shape != (count, 3):
                raise TopologyError(f"template {name} has shape {value.shape}, expected {(count, 3)}")

    @classmethod
    def from_body(cls, body: ParametricBody, name: str = "", convention: str = "decaf") -> PartTopology:
        """The part a `ParametricBody` describes: its rest pose, and the mesh levels of its file. Raises TopologyError."""
        levels = body.arrays.levels
        if not levels:
            raise TopologyError(
                f"{name or body.arrays.kind}: the body file has no coarser mesh levels; import it again"
            )
        rest = body()
        counts = (body.num_vertices, *(len(level.keep) for level in levels))
        sizes = PartSizes(
            vertices=counts,
            keypoints=rest.keypoints.shape[1],
            betas=body.arrays.num_betas,
            pose=body.num_pose,
            expression=body.arrays.num_expressions,
            body=name,
            convention=convention,
            rest_sha256=rest_sha256(body),
        )
        vertices = rest.vertices[0].double().numpy(force=True)
        keep = [np.arange(body.num_vertices), *(np.asarray(level.keep) for level in levels)]
        up = tuple(
            UpStep(
                np.asarray(level.up_vertices)[keep[index]].astype(np.int64),
                np.asarray(level.up_weights, np.float64)[keep[index]],
                len(level.keep),
            )
            for index, level in enumerate(levels)
        )
        keypoints = rest.keypoints[0].double().numpy(force=True)
        about_joint = body.convention.pivot == "root_joint"
        pivot = rest.joints[0, 0].double().numpy(force=True) if about_joint else vertices.mean(0)
        return cls(sizes, keypoints, vertices[keep[-1]], up[::-1], pivot, vertices)


def rest_sha256(body: ParametricBody) -> str:
    """What tells a body's full-resolution rest shape from any other."""
    return hashlib.sha256(np.ascontiguousarray(body.arrays.template, "<f4").tobytes()).hexdigest()


@dataclass(frozen=True)
class Topology:
    """Both parts."""

    hand: PartTopology
    head: PartTopology

    @classmethod
    def from_bodies(cls, hand: str = "free-hand", head: str = "free-head", convention: str | None = None) -> Topology:
        """Topology of two bodies by name or path. convention: None is `free` for the free bodies and `decaf` for others.

        Raises BodyFileError or TopologyError.
        """
        from handface.model.bodies import load_body

        def part(body: str) -> PartTopology:
            chosen = convention or ("free" if body.startswith("free-") else "decaf")
            return PartTopology.from_body(load_body(body, chosen), body, chosen)

        return cls(part(hand), part(head))

    @property
    def sizes(self) -> Sizes:
        """Counts alone."""
        return Sizes(self.hand.sizes, self.head.sizes)

    def template(self, centred: bool) -> NDArray[np.float32]:
        """Rest position of every token, (T, 3) metres in token order; `centred`: each part about its coarse vertices' mean."""

        def place(part: PartTopology) -> Sequence[NDArray[np.float64]]:
            origin = part.coarse.mean(0) if centred else np.zeros(3)
            return part.keypoints - origin, part.coarse - origin

        (hand_keypoints, hand), (head_keypoints, head) = place(self.hand), place(self.head)
        return np.concatenate([hand_keypoints, head_keypoints, hand, head]).astype(np.float32)
