"""Penetration and touch against hand-made scenes, trimesh, and the rules of the paper's script."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from handface.model.bodies import load_body
from handface.trainers.geometry import closed_faces
from handface.trainers.metrics.distance import closest_on_triangles, inside_depth, solid_angle, surface_distance
from handface.trainers.metrics.meshes import Meshes
from handface.trainers.metrics.plausibility import Surface, hand_depths, judge, plausibility
from tests.trainers.evaluation.test_metrics_pose import random_meshes

SPHERE = trimesh.creation.icosphere(3, 0.1)


def _sphere() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A sphere of 10 cm with a hole at the bottom, and the triangles that close it."""
    vertices = torch.from_numpy(np.array(SPHERE.vertices))
    faces = torch.from_numpy(np.array(SPHERE.faces, np.int64))
    bottom = vertices[faces].mean(1)[:, 2] < -0.09
    return vertices, faces[~bottom], faces[bottom]


def _pair(hand: torch.Tensor, head: torch.Tensor) -> Meshes:
    return random_meshes(batch=1, hand=len(hand), head=len(head)).__class__(
        hand=hand[None],
        head=head[None],
        deformation=torch.zeros(1, len(head), 3, dtype=head.dtype),
        keypoints=torch.zeros(1, 89, 3),
        hand_contact=torch.zeros(1, len(hand)),
        head_contact=torch.zeros(1, len(head)),
        presence=torch.zeros(1),
    )


def _measured(prediction: Meshes, truth: Meshes, surface: Surface, known: torch.Tensor) -> dict[str, torch.Tensor]:
    return plausibility(hand_depths(prediction, surface, known), hand_depths(truth, surface, known), known)


def _at(*depths: float) -> torch.Tensor:
    """Hand vertices on the x axis, so many metres inside the sphere's surface there."""
    surface = float(trimesh.proximity.closest_point(SPHERE, [[0.2, 0, 0]])[0][0, 0])
    return torch.tensor([[surface - depth, 0.0, 0.0] for depth in depths], dtype=torch.float64)


def test_distances_to_one_triangle() -> None:
    triangle = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = torch.tensor([[0.2, 0.2, 3.0], [0.5, -2, 0], [3, 0, 0], [-3, -4, 0], [1, 1, 0], [0.3, 0.3, 0]])
    expected = [3, 2, 2, 5, 2**-0.5, 0]
    assert closest_on_triangles(points, triangle.expand(6, 3, 3)).tolist() == pytest.approx(expected, abs=1e-6)
    needle = torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]).expand(2, 3, 3)  # no area
    assert closest_on_triangles(torch.tensor([[0.5, 2.0, 0], [3, 0, 0]]), needle).tolist() == [2, 1]


@pytest.mark.parametrize("seed", range(4))
def test_distances_and_insides_against_trimesh(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = trimesh.creation.icosphere(2, 0.1) if seed % 2 else trimesh.creation.torus(0.08, 0.03)
    mesh.vertices += rng.normal(0, 0.004, mesh.vertices.shape) * (seed > 1)
    points = rng.uniform(-0.15, 0.15, (300, 3))
    vertices, faces = torch.from_numpy(np.array(mesh.vertices)), torch.from_numpy(np.array(mesh.faces, np.int64))
    expected = trimesh.proximity.signed_distance(mesh, points)  # positive inside
    found, closed = inside_depth(torch.from_numpy(points), vertices, faces, faces[:0])
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-6)  # trimesh rounds
    assert (np.sign(found) == np.sign(expected)).all()
    assert closed.equal(found)


def test_distance_is_exact_however_uneven_the_triangles() -> None:
    rng = np.random.default_rng(5)
    corners = torch.from_numpy(
        rng.normal(size=(200, 3, 3)) * 10.0 ** rng.uniform(-3, 1, (200, 1, 1)) + rng.normal(size=(200, 1, 3))
    )
    vertices, faces = corners.reshape(-1, 3), torch.arange(600).reshape(-1, 3)
    points = torch.from_numpy(rng.normal(size=(50, 3)))
    brute = closest_on_triangles(points[:, None], corners[None]).amin(1)
    torch.testing.assert_close(surface_distance(points, vertices, faces), brute)


def test_open_and_closed_meshes() -> None:
    vertices, faces, caps = _sphere()
    points = torch.tensor([[0.0, 0, 0], [0.0, 0, 0.3], [0, 0, -0.097], [0, 0, -0.15]]).double()
    whole = solid_angle(points, vertices, torch.cat([faces, caps]))
    assert whole.tolist() == pytest.approx([1, 0, 1, 0], abs=1e-9)
    part = solid_angle(points, vertices, faces)
    assert part[0] > 0.9 and part[2] < 0.6  # the third lies in the sphere, at its hole
    open_depth, closed_depth = inside_depth(points, vertices, faces, caps)
    assert (open_depth > 0).equal(part > 0.5)
    assert (closed_depth > 0).tolist() == [True, False, True, False]
    assert abs(open_depth[2].item()) > 0.01 and 0 < closed_depth[2].item() < 0.004


@pytest.mark.parametrize(
    ("depths", "collision", "free", "touches"),
    [
        ([0.0, 0.002], 0.001, 1, 1),
        ([0.0049], 0.0049, 1, 1),
        ([0.0051], 0.0051, 0, 0),
        ([-0.0049], 0.0, 1, 1),
        ([-0.0051], 0.0, 1, 0),
        ([0.02, -0.1], 0.01, 0, 0),
        ([0.004, 0.02], 0.012, 0, 1),
    ],
)
def test_the_rules_of_one_frame(depths: list[float], collision: float, free: int, touches: int) -> None:
    found = judge(torch.tensor(depths))
    assert {name: value.item() for name, value in found.items()} == {
        "collision": pytest.approx(collision, abs=1e-7),
        "free": free,
        "touches": touches,
    }


def test_leaks_count_as_touching_in_the_papers_rule_alone() -> None:
    vertices, faces, caps = _sphere()
    surface = Surface(faces, caps)
    touching = _pair(_at(-0.001, -0.3), vertices)
    deep = _pair(_at(0.06, -0.3), vertices)  # 6 cm inside: a "leak"
    found = _measured(deep, touching, surface, torch.tensor([True]))
    values = {name: round(value.item(), 5) for name, value in found.items()}
    assert values == {
        "surfaces": 1,
        "leaks": 1,
        "collision": 0,
        "free": 1,
        "true_touches": 1,
        "both_touch": 1,
        "collision_closed": pytest.approx(0.03, abs=5e-4),  # the surface nearest to it is another facet
        "free_closed": 0,
        "true_touches_closed": 1,
        "both_touch_closed": 0,
    }
    unknown = _measured(deep, touching, surface, torch.tensor([False]))
    assert all(value.item() == 0 for value in unknown.values())


def test_the_head_is_deformed_before_it_is_asked() -> None:
    vertices, faces, caps = _sphere()
    pressed = _pair(_at(0.004), vertices)
    yielding = Meshes(**{**vars(pressed), "deformation": torch.tensor([0.01, 0, 0]).expand_as(pressed.head)})
    surface, known = Surface(faces, caps), torch.tensor([True])
    assert _measured(pressed, pressed, surface, known)["collision"].item() == pytest.approx(0.004, abs=1e-4)
    assert _measured(yielding, pressed, surface, known)["collision"].item() == 0  # the surface gave way by 1 cm


def test_free_bodies_against_trimesh() -> None:
    hand, head = load_body("free-hand", "free"), load_body("free-head", "free")
    face = head().vertices[0]
    points = hand().vertices[0]
    points = points - points.mean(0) + face.mean(0) + torch.tensor([0.0, 0.0, 0.09])
    points = points[::16]
    caps = torch.from_numpy(head.arrays.caps.astype(np.int64))
    mesh = trimesh.Trimesh(face.numpy(), np.concatenate([head.arrays.faces, head.arrays.caps]), process=False)
    expected = trimesh.proximity.signed_distance(mesh, points.numpy())
    _, closed = inside_depth(points, face, head.faces, caps)
    np.testing.assert_allclose(closed.numpy(), expected, atol=2e-6)
    assert (expected > 0).any() and (expected < 0).any()


def test_what_is_far_outside_need_not_be_exact_but_stays_far() -> None:
    head = load_body("free-head")
    vertices = head().vertices[0]
    generator = torch.Generator().manual_seed(0)
    near = vertices[torch.randperm(len(vertices), generator=generator)[:300]]
    points = near + 0.01 * torch.randn(300, 3, generator=generator)
    caps = torch.from_numpy(closed_faces(head.arrays)[len(head.faces) :])
    exact = inside_depth(points, vertices, head.faces, caps)
    quick = inside_depth(points, vertices, head.faces, caps, within=0.005)
    for right, found in zip(exact, quick, strict=True):
        judged = right > -0.005
        assert 50 < judged.sum() < 250
        assert torch.equal(right[judged], found[judged])
        assert ((found < -0.005) & (found >= right - 1e-6))[~judged].all()
