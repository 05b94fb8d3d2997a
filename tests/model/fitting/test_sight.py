"""Where a hand that moves along its line of sight meets the skin: known planes, and a head against every triangle."""

from __future__ import annotations

import numpy as np
import pytest

from handface.model.bodies import load_body
from handface.model.fitting.distance import nearest_vertex
from handface.model.fitting.flesh import closed_faces
from handface.model.fitting.sight import meet_skin

AWAY = np.array([0.0, 0.0, 1.0])
# a square at z = 0.1 that faces the camera, and the same one behind it
SQUARE = np.array([[-1, -1, 0.1], [1, -1, 0.1], [1, 1, 0.1], [-1, 1, 0.1]], float)
FACING = np.array([[0, 3, 2], [0, 2, 1]])


def test_a_plane_is_met_where_it_is() -> None:
    points = np.array([[0.2, 0.3, 0.0], [0.1, -0.4, 0.02], [5.0, 0.0, 0.0]])
    met = meet_skin(points, AWAY, SQUARE, FACING, 1.0)
    np.testing.assert_allclose(met.offset, [0.1, 0.08], atol=1e-12)
    np.testing.assert_allclose((met.weights[..., None] * SQUARE[met.corners]).sum(1)[:, :2], points[:2, :2], atol=1e-12)
    np.testing.assert_allclose(met.cosine, 1.0)
    assert met.first(np.zeros(2)) == pytest.approx(0.08)
    assert met.first(np.array([0.0, 0.05])) == pytest.approx(0.1), "the second may be 5 cm deep"


def test_skin_that_turns_away_or_lies_behind_is_not_met() -> None:
    point = np.array([[0.2, 0.3, 0.0]])
    assert not len(meet_skin(point, AWAY, SQUARE, FACING[:, ::-1], 1.0).offset)
    behind = point + [0, 0, 0.5]
    assert meet_skin(behind, AWAY, SQUARE, FACING, 1.0).offset == pytest.approx([-0.4])
    assert meet_skin(behind, AWAY, SQUARE, FACING, 0.2).first(np.zeros(0)) == np.inf
    assert not len(meet_skin(np.zeros((0, 3)), AWAY, SQUARE, FACING, 1.0).offset)


def test_a_head_is_met_where_a_look_at_every_triangle_says() -> None:
    body = load_body("free-head", "free")
    head = body().vertices[0].double().numpy() * [1, -1, -1]
    faces = closed_faces(body.arrays)
    ray = np.array([0.05, -0.1, 1.0]) / np.linalg.norm([0.05, -0.1, 1.0])
    points = head.mean(0) + np.random.default_rng(0).uniform([-0.1, -0.12, -0.4], [0.1, 0.12, -0.3], (150, 3))
    expected = np.array([_first(point, ray, head[faces]) for point in points])
    met = meet_skin(points, ray, head, faces, 0.0)
    there = expected[np.isfinite(expected)]
    assert len(there) > 50
    # a long thin triangle's centroid may be far from where it is met: few lines miss it
    assert len(met.offset) >= 0.97 * len(there)
    error = np.abs(np.sort(met.offset)[:, None] - there[None]).min(1)
    assert np.quantile(error, 0.95) < 1e-9


def _first(point: np.ndarray, ray: np.ndarray, corner: np.ndarray) -> float:
    """Moeller and Trumbore's test of every triangle that faces the ray."""
    ab, ac = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    p = np.cross(ray, ac)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / (ab * p).sum(1)
        t = point - corner[:, 0]
        u = (t * p).sum(1) * inverse
        q = np.cross(t, ab)
        v = (q @ ray) * inverse
        offset = (ac * q).sum(1) * inverse
    facing = (np.cross(ab, ac) @ ray) < 0
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (offset > 0) & facing
    return float(offset[hit].min(initial=np.inf))


def test_the_nearest_vertex_is_that_of_all_and_infinitely_far_out_of_reach() -> None:
    generator = np.random.default_rng(1)
    points, vertices = generator.normal(0, 0.1, (400, 3)), generator.normal(0.15, 0.1, (300, 3))
    away = np.linalg.norm(points[:, None] - vertices, axis=2).min(1)
    np.testing.assert_allclose(nearest_vertex(points, vertices, 0.04), np.where(away < 0.04, away, np.inf), atol=1e-12)
    assert (nearest_vertex(points, vertices + 9, 0.04) == np.inf).all()
