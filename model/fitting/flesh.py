"""The face yields: displaces skin out of a pressed-in hand, and measures how the two meet. Any head and hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from handface.model.fitting.distance import Closest, FitSurface, nearest_vertex
from handface.model.fitting.elastic import Contacts, Skin

if TYPE_CHECKING:
    from handface.model.bodies.arrays import BodyArrays, Floats

Array = NDArray[np.float64]
_CONTACT_DISTANCE = 0.0025  # metres: surfaces nearer than this touch
_NEAR = 0.003  # metres: hand vertices farther out than this do not come to press within a round
_DEEP, _BULGE = 0.022, 0.006  # metres: nor do those that are deeper inside, or farther out than skin may bulge
_FAR = 0.03  # metres from every head vertex, from where on a hand vertex does not touch
_ROUNDS, _GOOD = 4, 0.0003  # rounds at most, and the overlap in metres that is good enough
_GAP = 0.0002  # metres the skin is pushed beyond the hand's vertices, for their edges' sake
_LEFT_EYE = 3  # joint
_BEHIND = 0.085  # metres behind the eyes from where the head does not yield
_UNKNOWN_STIFFNESS = 0.4  # of heads whose file has none
_BELOW_CHIN, _CHIN = 0.03, 8  # metres under the chin's keypoint: the neck of heads whose file has no mask of it


@dataclass(frozen=True)
class Flesh:
    """What moves of a head. faces: (F, 3), closed.  skin: the elastic outer skin.  stiffness: (V,) in [0, 1].

    pressable: (F,) faces that hands press on.  followers: (N,) vertices of mouth lining, eye sockets and eyeballs, moved with the mean of leaders: (N, 6) skin vertices.
    """

    faces: NDArray[np.int64]
    skin: Skin
    stiffness: Floats
    pressable: NDArray[np.bool_]
    followers: NDArray[np.int64]
    leaders: NDArray[np.int64]

    @classmethod
    def of(cls, head: BodyArrays) -> Flesh:
        """The outer skin yields but for the lower neck and the back of the head."""
        from scipy.spatial import cKDTree

        v, faces = head.template, head.faces.astype(np.int64)
        eyes = _mask(head, "eyes") > 0.5
        inner = eyes | (_mask(head, "cavity") > 0.5)
        outer = np.zeros(len(v), bool)
        outer[np.unique(faces[~inner[faces].any(1)])] = True
        movable = outer & ~_neck(head) & (v[:, 2] > head.joint_template[_LEFT_EYE][2] - _BEHIND)
        followers = np.flatnonzero(~outer)
        rows = np.flatnonzero(outer)
        _, near = cKDTree(v[rows]).query(v[followers], k=6)
        leaders = rows[near]
        for side in (-1, 1):  # an eyeball keeps its shape: all of it follows the lids
            ball = np.flatnonzero(eyes[followers] & (side * v[followers, 0] > 0))
            if len(ball):
                front = cKDTree(v[rows]).query(v[followers[ball]].mean(0) + np.array([0, 0, 0.012]), k=6)[1]
                leaders[ball] = rows[front]
        closed = closed_faces(head)
        pressable: NDArray[np.bool_] = np.all(~inner[closed], axis=1)
        pressable[len(faces) :] = False
        stiffness = np.full(len(v), _UNKNOWN_STIFFNESS) if head.stiffness is None else head.stiffness
        return cls(closed, Skin(v, faces, stiffness, movable), np.asarray(stiffness), pressable, followers, leaders)

    def displacement(self, contacts: Contacts, count: int) -> Array:
        """Displacement (count, 3) of all vertices under contacts with the outer skin."""
        u = self.skin.displacement(contacts, count)
        u[self.followers] = u[self.leaders].mean(1)
        return u

    def yield_to(self, head: Array, hand: Array) -> Array:
        """Displacement (V, 3) of the head's vertices (V, 3) that makes room for the hand's (H, 3), metres.

        Each round asks the skin, where it is now, to move inward under every hand vertex that is inside it (elastic.py), until
        the overlap is gone; a few rounds do, as the closest points move little. The best round is kept.
        """
        rows = faces_near(head, hand, self.faces)
        near, pressable = self.faces[rows], self.pressable[rows]
        best = u = np.zeros_like(head)
        if not len(near):
            return best
        surface = FitSurface(head, near)
        candidates = _may_press(surface, hand)
        if not len(candidates):
            return best
        least = np.inf
        for k in range(_ROUNDS + 1):
            if k:
                surface = FitSurface(head + u, near)
            found = surface.closest(candidates, candidates=10)
            deepest = -float(found.distance.min())
            if deepest < least:
                best, least = u, deepest
            if least < _GOOD or k == _ROUNDS or deepest > least + 0.004:
                break
            u = self.displacement(_contacts(surface, found, u, pressable), len(head))
        return best


def _may_press(surface: FitSurface, hand: Array) -> Array:
    """The hand's vertices (N, 3) that are inside the skin or may come to be when it bulges."""
    low, high = surface.corners.min((0, 1)) - _BULGE, surface.corners.max((0, 1)) + _BULGE
    hand = hand[((hand > low) & (hand < high)).all(1)]
    if not len(hand):
        return hand
    distance = surface.signed_distance(hand, candidates=6)
    return hand[(distance > -_DEEP) & (distance < _BULGE)]


def _contacts(surface: FitSurface, found: Closest, u: Array, pressable: NDArray[np.bool_]) -> Contacts:
    """What the skin, displaced by u (V, 3) now, is asked for: room for the hand points whose closest points are `found`.

    pressable: (F,) faces of the surface that hands press on.
    """
    corners = surface.faces[found.face]
    normals = np.einsum("nc,ncd->nd", found.weights, surface.vertex_normals[corners])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # along a smooth normal the overlap is longer than along the closest one; limit the stretch at sharp folds
    along = found.distance / np.clip((normals * found.normal).sum(1), 0.5, 1)
    already = (np.einsum("nc,ncd->nd", found.weights, u[corners]) * normals).sum(1)
    keep = (along < _NEAR) & pressable[found.face]
    return Contacts(corners[keep], found.weights[keep], normals[keep], (_GAP - along - already)[keep])


def faces_near(head: Array, hand: Array, faces: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of faces within 4 cm of the part of the hand that is nearest to the face."""
    return np.flatnonzero(np.isfinite(nearest_vertex(head, hand, 0.04))[faces].any(1))


def closed_faces(body: BodyArrays) -> NDArray[np.int64]:
    """Triangles (F + C, 3) with the caps that close the body."""
    return np.concatenate([body.faces.astype(np.int64), body.caps.astype(np.int64)])


@dataclass(frozen=True)
class Touch:
    """How hand and deformed head meet. hand_distance: (H,) metres to the closed head, negative inside, at most 3 cm.

    hand_contact: (H,), head_contact: (V,) bool.
    """

    hand_distance: Array
    hand_contact: NDArray[np.bool_]
    head_contact: NDArray[np.bool_]

    @property
    def deepest(self) -> float:
        """The deepest hand vertex's depth inside the head, metres, 0 if none is."""
        return float(max(0.0, -self.hand_distance.min()))

    @property
    def median_depth(self) -> float:
        """Median depth of the hand vertices that are inside, metres, 0 if none is."""
        inside = -self.hand_distance[self.hand_distance < 0]
        return float(np.median(inside)) if len(inside) else 0.0


def measure_touch(
    head: Array, hand: Array, head_faces: NDArray[np.int64], hand_faces: NDArray[np.int64], cavity: NDArray[np.bool_]
) -> Touch:
    """Measure the touch of deformed head (V, 3) and hand (H, 3) over all hand vertices. Faces are closed, outside out.

    A hand vertex is in contact within 2.5 mm of the head. A head vertex is if it lies within 2.5 mm of the hand, or if it is
    the nearest corner of the head triangle that a hand vertex in contact touches (cheek triangles are larger than a fingertip).
    cavity: (V,) vertices inside mouth and sockets, which nothing touches.
    """
    distance = np.minimum(nearest_vertex(hand, head, _FAR), _FAR)  # of what is far away this is enough
    hand_contact, head_contact = np.zeros(len(hand), bool), np.zeros(len(head), bool)
    near = np.flatnonzero(distance < _FAR)
    if len(near):
        surface = FitSurface(head, head_faces[faces_near(head, hand[near], head_faces)])
        found = surface.closest(hand[near], candidates=12)
        distance[near] = found.distance
        touching = found.distance < _CONTACT_DISTANCE
        hand_contact[near[touching]] = True
        corners = surface.faces[found.face[touching]]
        head_contact[corners[np.arange(len(corners)), found.weights[touching].argmax(1)]] = True
    if hand_contact.any():
        touched = hand[hand_contact]
        box = ((head > touched.min(0) - 0.02) & (head < touched.max(0) + 0.02)).all(1)
        rows = np.flatnonzero(box)
        if len(rows):
            beneath = FitSurface(hand, hand_faces).signed_distance(head[rows], candidates=8)
            head_contact[rows[beneath < _CONTACT_DISTANCE]] = True
    head_contact[cavity] = False
    return Touch(distance, hand_contact, head_contact)


def _mask(head: BodyArrays, name: str) -> Floats:
    return head.masks[name] if name in head.masks else np.zeros(len(head.template), np.float32)


def _neck(head: BodyArrays) -> NDArray[np.bool_]:
    if "neck" in head.masks:
        return np.asarray(head.masks["neck"]) >= 0.5
    points = next(iter(head.keypoint_sets.values()))
    chin = (head.template[points.vertices[_CHIN]] * points.weights[_CHIN][:, None]).sum(0)
    return np.asarray(head.template[:, 1] < chin[1] - _BELOW_CHIN)
