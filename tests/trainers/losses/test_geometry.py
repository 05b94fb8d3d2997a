"""Inside test, nearest surface and front surface against trimesh and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from handface.model.bodies import ParametricBody, load_body
from handface.trainers.geometry import (
    boundary_rings,
    closed_faces,
    compact,
    front_depth,
    inside,
    nearest_surface,
    nearest_vertex,
    vertex_faces,
    winding_number,
)
from handface.trainers.geometry.nearest import closest_weights

FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])  # of a tetrahedron, outwards
CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])


@pytest.fixture(scope="module")
def head() -> ParametricBody:
    return load_body("free-head")


@pytest.fixture(scope="module")
def skull(head: ParametricBody) -> trimesh.Trimesh:
    """The largest connected part of the closed head: no eyeballs, so that trimesh's parity is unambiguous."""
    whole = trimesh.Trimesh(head.template.numpy(), closed_faces(head.arrays), process=False)
    return max(whole.split(only_watertight=True), key=lambda part: part.volume)


@pytest.mark.parametrize("cull", [True, False])
def test_inside_agrees_with_trimesh_on_the_head(skull: trimesh.Trimesh, cull: bool) -> None:
    points = np.random.default_rng(0).uniform(skull.bounds[0], skull.bounds[1], (600, 3))
    mesh = torch.from_numpy(np.array(skull.vertices)), torch.from_numpy(np.array(skull.faces))
    found = winding_number(torch.from_numpy(points)[None], mesh[0][None], mesh[1], cull=cull)[0] > 0.5
    distance = trimesh.proximity.signed_distance(skull, points)  # positive inside
    clear = np.abs(distance) > 1e-6
    assert np.array_equal(found.numpy()[clear], distance[clear] > 0)
    assert 100 < found.sum() < 500


def test_both_ways_agree_on_a_batch_of_whole_heads(head: ParametricBody) -> None:
    faces = torch.from_numpy(closed_faces(head.arrays))
    betas = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    vertices = head(betas=betas).vertices
    points = vertices.mean(1, keepdim=True) + 0.1 * torch.randn(3, 300, 3, generator=torch.Generator().manual_seed(2))
    culled = winding_number(points, vertices, faces, cull=True)
    assert torch.equal(culled, winding_number(points, vertices, faces, cull=False))
    assert set(culled.unique().tolist()) <= {0.0, 1.0, 2.0}  # 2 in an eyeball


def test_inside_of_a_sphere_is_its_radius() -> None:
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    vertices, faces = torch.from_numpy(np.array(sphere.vertices)), torch.from_numpy(np.array(sphere.faces))
    grid = torch.linspace(-1.2, 1.2, 13, dtype=torch.float64)  # rays meet vertices and edges exactly
    points = torch.cartesian_prod(grid, grid, grid)[None]
    radius = points[0].norm(dim=-1)
    found = inside(points, vertices[None], faces)[0]
    assert found[radius < 0.98].all()
    assert not found[radius > 1.0].any()


def test_inside_does_not_depend_on_where_the_head_is(head: ParametricBody) -> None:
    faces = torch.from_numpy(closed_faces(head.arrays))
    vertices = head().vertices
    points = vertices.mean(1, keepdim=True) + 0.08 * torch.randn(1, 400, 3, generator=torch.Generator().manual_seed(3))
    here, there = inside(points, vertices, faces), inside(points + 0.5, vertices + 0.5, faces)
    assert (here != there).float().mean() < 0.005  # single precision near the surface


def test_holes_without_caps_are_closed_by_fans(head: ParametricBody) -> None:
    arrays = head.arrays
    from dataclasses import replace

    bare = closed_faces(replace(arrays, caps=np.zeros((0, 3), np.int64)))
    mesh = trimesh.Trimesh(arrays.template, bare, process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert len(bare) == len(arrays.faces) + len(arrays.rings["neck"]) - 2
    assert boundary_rings(bare) == []


def test_touching_holes_are_refused() -> None:
    with pytest.raises(ValueError, match="touches itself"):
        boundary_rings(np.array([[0, 1, 2], [0, 3, 4]]))


def test_nearest_surface_agrees_with_trimesh(head: ParametricBody) -> None:
    faces = head.arrays.faces.astype(np.int64)
    vertices = head.template.double()[None]
    points = vertices[:, ::9] + 0.01 * torch.randn(
        1, len(vertices[0, ::9]), 3, generator=torch.Generator().manual_seed(0)
    )
    at = torch.from_numpy(vertex_faces(faces, head.num_vertices))
    square = nearest_surface(points, vertices, torch.from_numpy(faces), at)[0]
    mesh = trimesh.Trimesh(head.template.numpy(), faces, process=False)
    _, distance, _ = trimesh.proximity.closest_point(mesh, points[0].numpy())
    error = square.sqrt().numpy() - distance
    assert error.min() > -2e-5  # trimesh merges feet within its tolerance
    assert np.quantile(error, 0.95) < 1e-5
    assert error.max() < 5e-3


def test_nearest_surface_gradient() -> None:
    at = torch.from_numpy(vertex_faces(FACES.numpy(), 4))
    corners = CORNERS.double()[None].requires_grad_(True)
    points = torch.tensor([[[0.2, 0.3, -0.4], [2.0, 0.1, 0.1], [0.1, 0.2, 0.15], [0.4, -0.3, -0.5]]]).double()
    points.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda p, v: nearest_surface(p, v, FACES, at), (points, corners))
    assert nearest_surface(points, corners, FACES, at)[0, 0].item() == pytest.approx(0.16)


def test_closest_weights_of_every_region() -> None:
    corners = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points = torch.tensor([[0.25, 0.25, 1], [-1, -1, 0], [2, 0, 0], [0, 3, 1], [0.5, -1, 0], [1, 1, 0.5], [-1, 0.5, 0]])
    expected = [[0.5, 0.25, 0.25], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]
    assert torch.allclose(closest_weights(points, corners.expand(7, 3, 3)), torch.tensor(expected))


def test_nearest_vertex_heeds_the_mask() -> None:
    points = torch.tensor([[[0.0, 0, 0]]])
    targets = torch.tensor([[[1.0, 0, 0], [3.0, 0, 0]]])
    assert nearest_vertex(points, targets).item() == 1
    assert nearest_vertex(points, targets, torch.tensor([[False, True]])).item() == 9


def test_front_depth_is_the_nearer_side_and_differentiable() -> None:
    corners = CORNERS.double()[None].requires_grad_(True)
    points = torch.tensor([[[0.2, 0.3], [0.1, 0.1], [0.9, 0.9]]]).double().requires_grad_(True)
    z, hit = front_depth(points, corners, FACES)
    assert hit.tolist() == [[True, True, False]]
    assert z.tolist() == [[0, 0, 0]]  # the face in the xy plane
    behind, _ = front_depth(points, corners * torch.tensor([1.0, 1, -1]), FACES)
    assert behind[0, 0].item() == pytest.approx(-0.5)  # x + y + |z| = 1
    tilt = torch.tensor([1.0, 1, -1], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p, v: front_depth(p, v * tilt, FACES)[0], (points, corners))


def test_front_depth_culled_or_not(head: ParametricBody) -> None:
    vertices, faces = head().vertices.repeat(2, 1, 1), head.faces
    points = vertices[:, ::50, :2] + 0.02 * torch.randn(2, 87, 2, generator=torch.Generator().manual_seed(4))
    (z, hit), (plain, plain_hit) = (front_depth(points, vertices, faces, cull) for cull in (True, False))
    assert torch.equal(hit, plain_hit)
    assert torch.allclose(z, plain, atol=1e-6)
    assert 0.3 < hit.float().mean() < 1


def test_compact_packs_marks_in_order() -> None:
    index, valid = compact(torch.tensor([[False, True, False, True], [False, False, True, False]]))
    assert index[0].tolist() == [1, 3]
    assert index[1, 0] == 2
    assert valid.tolist() == [[True, True], [True, False]]
    assert compact(torch.zeros(2, 3, dtype=torch.bool))[1].tolist() == [[False], [False]]
