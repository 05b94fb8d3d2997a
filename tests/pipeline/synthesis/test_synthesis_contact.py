"""Distances, the elastic skin, fingers and the hand at the face: against brute force, known answers and the promised limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.model.fitting.distance import FitSurface
from handface.model.fitting.elastic import Contacts, complementarity
from handface.pipeline.synthesis.person.bodies import free_hand, free_head
from handface.pipeline.synthesis.person.loft import bust, forearm
from handface.pipeline.synthesis.touch.deform import face_flesh, measure, yield_to
from handface.pipeline.synthesis.touch.pose import WRIST_RANGE, arm_direction
from handface.pipeline.synthesis.touch.target import REGIONS, region_vertices

BOX = np.array([[x, y, z] for x in (0.0, 1.0) for y in (0.0, 1.0) for z in (0.0, 1.0)])
BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def box_distance(p: np.ndarray) -> np.ndarray:
    """Signed distance to the unit box in closed form."""
    q = np.abs(p - 0.5) - 0.5
    return np.linalg.norm(np.maximum(q, 0), axis=1) + np.minimum(q.max(1), 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_distance_to_a_box_is_exact_inside_outside_at_edges_and_corners(seed: int) -> None:
    points = np.random.default_rng(seed).uniform(-0.7, 1.7, (200, 3))
    found = FitSurface(BOX, BOX_FACES).closest(points)
    np.testing.assert_allclose(found.distance, box_distance(points), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(points - found.point, axis=1), np.abs(found.distance), atol=1e-9)
    on_surface = np.einsum("nc,ncd->nd", found.weights, BOX[BOX_FACES[found.face]])
    np.testing.assert_allclose(on_surface, found.point, atol=1e-9)


def test_closed_head_tells_inside_from_outside() -> None:
    head = free_head()
    v = head.arrays.template.astype(float)
    surface = FitSurface(v, head.closed_faces)
    cheek = region_vertices()["cheek"]
    normal = surface.vertex_normals[cheek]
    for depth in (0.004, 0.010):
        np.testing.assert_allclose(surface.signed_distance(v[cheek] + depth * normal), depth, atol=0.35 * depth)
        inside = surface.signed_distance(v[cheek] - depth * normal)  # the nose may be nearer than the cheek
        assert (inside < 0).all() and np.median(inside) < -0.9 * depth


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_complementarity_pushes_only_where_it_must(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(8, 12))
    matrix, demand = a @ a.T + 0.5 * np.eye(8), rng.normal(size=8)
    force = complementarity(matrix, demand)
    slack = (matrix + np.eye(8) * 3e-3 * np.diag(matrix).mean()) @ force - demand
    assert (force >= 0).all() and (slack > -2e-5).all()
    assert np.abs(force * slack).max() < 1e-3 * max(1.0, force.max())


def test_a_dent_is_as_deep_as_asked_and_fades_slower_on_soft_skin() -> None:
    head = free_head()
    v = head.arrays.template.astype(float)
    normals = FitSurface(v, head.closed_faces).vertex_normals
    spread = {}
    for region in ("cheek", "forehead"):
        row = region_vertices()[region]
        row = int(row[np.abs(v[row, 0] - v[row, 0].mean()).argmin()]) if region == "forehead" else int(row[0])
        contact = Contacts(np.full((1, 3), row), np.array([[1.0, 0, 0]]), normals[[row]], np.array([0.01]))
        u = face_flesh().displacement(contact, len(v))
        assert -u[row] @ normals[row] == pytest.approx(0.01, rel=0.02)
        assert np.linalg.norm(u, axis=1).max() < 0.0105
        moved = np.linalg.norm(u, axis=1) > 0.001
        spread[region] = np.linalg.norm(v[moved] - v[row], axis=1).max()
    assert spread["cheek"] > spread["forehead"]


def test_the_cheek_makes_room_for_a_ball() -> None:
    """A ball the size of a fingertip, pressed 8 mm into the cheek, ends outside it; the far side of the face stays."""
    head = free_head()
    v = head.arrays.template.astype(float)
    surface = FitSurface(v, head.closed_faces)
    rows = region_vertices()["cheek"]
    row = rows[v[rows, 0].argmin()]
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(400, 3))
    ball *= 0.008 / np.linalg.norm(ball, axis=1, keepdims=True)
    ball += v[row] + surface.vertex_normals[row] * 0.0
    assert surface.signed_distance(ball).min() < -0.006
    u = yield_to(v, ball)
    after = FitSurface(v + u, head.closed_faces).signed_distance(ball)
    assert after.min() > -0.001
    assert 0.006 < np.linalg.norm(u, axis=1).max() < 0.02
    assert np.abs(u[v[:, 0] > 0.02]).max() < 1e-3


def test_contact_bits_are_near_and_nothing_touches_from_afar() -> None:
    head, hand = free_head(), free_hand()
    v = head.arrays.template.astype(float)
    placed = hand.arrays.template.astype(float)
    away = measure(v, placed + [0, 0, 0.5])
    assert not away.hand_contact.any() and not away.head_contact.any() and away.deepest == 0
    tip = placed[placed[:, 0].argmin()]
    nose = v[region_vertices()["nose"]]
    touching = measure(v, placed - tip + nose[nose[:, 2].argmax()] + [0, 0, 0.001])
    assert touching.hand_contact.any() and touching.head_contact.any()
    assert (np.abs(touching.hand_distance[touching.hand_contact]) < 0.0026).any()


def test_regions_are_where_their_names_say() -> None:
    v = free_head().arrays.template
    middle = {name: v[rows].mean(0) for name, rows in region_vertices().items()}
    assert set(middle) == set(REGIONS)
    order = ["under_chin", "chin", "lips", "nose", "eye", "forehead"]
    heights = [middle[name][1] for name in order]
    assert heights == sorted(heights)
    assert all(len(rows) >= 15 for rows in region_vertices().values())
    assert (
        abs(middle["cheek"][0]) < 0.005 and np.abs(v[region_vertices()["cheek"], 0]).min() > 0.02
    )  # both sides, not the nose


def test_forearm_and_bust_start_on_the_body_and_face_outward() -> None:
    hand, head = free_hand(), free_head()
    ring = hand.arrays.template[hand.arrays.rings["wrist"]].astype(float)
    arm = forearm(ring, np.array([1.0, 0, 0]), np.array([0.8, -0.6, 0]), 0.26, 1.5)
    neck = head.arrays.template[head.arrays.rings["neck"]].astype(float)
    trunk = bust(neck, 0.42, 0.2, 0.04)
    for part, start in ((arm, ring), (trunk, neck)):
        np.testing.assert_allclose(part.vertices[: len(start)], start, atol=1e-6)
        corner = part.vertices[part.faces].astype(float)
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        outward = corner.mean(1) - part.vertices.reshape(-1, len(start), 3).mean(1)[part.ring_of_face]
        wide = np.linalg.norm(normal, axis=1) > 1e-7
        assert ((normal * outward).sum(1)[wide] > 0).mean() > 0.9


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_wrist_bends_no_further_than_it_can(seed: int) -> None:
    from scipy.spatial.transform import Rotation

    rotation = Rotation.random(random_state=seed).as_matrix()
    behind = rotation @ np.array([1.0, 0, 0])
    arm = arm_direction(rotation)
    assert np.linalg.norm(arm) == pytest.approx(1)
    assert np.arccos(np.clip(arm @ behind, -1, 1)) <= WRIST_RANGE + 1e-6
