"""The renderer against cases whose answer is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handface.model.render import (
    NOTHING,
    DirectionalLight,
    Lighting,
    Material,
    Mesh,
    PerspectiveCamera,
    Texture,
    WeakPerspectiveCamera,
    rasterize,
    render,
    vertex_normals,
)
from handface.model.render.raster import Triangles, _fragments
from handface.model.render.texture import to_linear, to_srgb

CAMERA = PerspectiveCamera.from_focal(120.0, 96, 80)
FLAT = Lighting(lights=(), sky=(1.0, 1.0, 1.0), ground=(1.0, 1.0, 1.0))


def quad(z: tuple[float, float, float, float], half: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A square facing the camera: corners left-top, right-top, right-bottom, left-bottom at depths z."""
    xy = np.array([[-half, -half], [half, -half], [half, half], [-half, half]])
    return np.column_stack([xy, z]).astype(np.float32), np.array([[0, 2, 1], [0, 3, 2]])


def sphere(radius: float, centre: tuple[float, float, float], rings: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A latitude-longitude sphere with outward counter-clockwise faces."""
    theta, phi = np.linspace(0, np.pi, rings + 1), np.linspace(0, 2 * np.pi, 2 * rings, endpoint=False)
    t, p = np.meshgrid(theta, phi, indexing="ij")
    v = np.stack([np.sin(t) * np.cos(p), np.sin(t) * np.sin(p), np.cos(t)], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rings), np.arange(2 * rings), indexing="ij")
    a, b = i * 2 * rings + j, i * 2 * rings + (j + 1) % (2 * rings)
    c, d = a + 2 * rings, b + 2 * rings
    f = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    return (radius * v + centre).astype(np.float32), f


def test_depth_of_a_tilted_plane_is_exact_everywhere() -> None:
    v, f = quad((2.0, 2.5, 3.5, 3.0), half=4.0)  # z = 2.75 + x/16 + y/8
    buffers = rasterize(v, f, CAMERA)
    y, x = np.nonzero(buffers.face != NOTHING)
    assert len(y) == CAMERA.width * CAMERA.height
    _, ray = CAMERA.rays(np.stack([x, y], 1).astype(np.float64))
    expected = 2.75 / (1 - ray[:, 0] / 16 - ray[:, 1] / 8)
    np.testing.assert_allclose(buffers.depth[y, x], expected, rtol=2e-6)


def test_barycentrics_give_back_the_point_under_the_pixel() -> None:
    v, f = quad((1.0, 4.0, 3.0, 2.0), half=0.5)
    buffers = rasterize(v, f, CAMERA)
    y, x = np.nonzero(buffers.face != NOTHING)
    w = buffers.barycentric[y, x]
    point = (v[f[buffers.face[y, x]]] * w[..., None]).sum(1)
    np.testing.assert_allclose(w.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(CAMERA.project(point), np.stack([x, y], 1), atol=2e-3)
    np.testing.assert_allclose(point[:, 2], buffers.depth[y, x], rtol=1e-5)


def test_sphere_silhouette_depth_and_normals() -> None:
    camera, radius, distance = PerspectiveCamera.from_focal(300.0, 201, 201), 0.2, 1.0
    v, f = sphere(radius, (0, 0, distance))
    buffers = rasterize(v, f, camera, cull=True)
    y, x = np.mgrid[:201, :201]
    _, ray = camera.rays(np.stack([x, y], -1).astype(np.float64))
    along = ray[..., 2] * distance / np.linalg.norm(ray, axis=-1)  # ray . centre
    inside = along**2 - (distance**2 - radius**2)
    seen = buffers.face != NOTHING
    assert (seen == (inside > 0)).mean() > 0.998  # only pixels on the polygonal outline may differ
    core = inside > 0.02 * radius**2
    hit = (along - np.sqrt(np.maximum(inside, 0))) / np.linalg.norm(ray, axis=-1)
    np.testing.assert_allclose(buffers.depth[core], hit[core], atol=5e-4)
    corner = f[buffers.face[core]]
    normal = (vertex_normals(v, f)[corner] * buffers.barycentric[core][..., None]).sum(1)
    expected = (ray[core] * hit[core][:, None] - [0, 0, distance]) / radius
    assert (normal * expected).sum(1).min() > 0.999


def test_nearer_surface_wins_whatever_the_order_of_faces() -> None:
    near, f = quad((1.0,) * 4, half=0.1)
    far, _ = quad((2.0,) * 4)
    for first, second in ((near, far), (far, near)):
        buffers = rasterize(np.concatenate([first, second]), np.concatenate([f, f + 4]), CAMERA)
        middle = buffers.depth[CAMERA.height // 2, CAMERA.width // 2]
        assert middle == pytest.approx(1.0)
        assert buffers.depth[2, 2] == pytest.approx(2.0)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_shared_edges_leave_no_crack_and_no_double_hit(seed: int, snap: bool) -> None:
    """A square cut into a fan at a random inner point covers every pixel centre inside exactly once, on the grid as well."""
    rng = np.random.default_rng(seed)
    inner = rng.uniform(4, 27, 2)
    if snap:  # vertices and edges on pixel centres are the hard case
        inner = np.round(inner)
    n = 12
    border = np.concatenate(
        [np.stack(p, 1) for p in ((np.linspace(2, 29, n), np.full(n, 2.0)), (np.full(n, 29.0), np.linspace(2, 29, n)))]
        + [
            np.stack(p, 1)
            for p in ((np.linspace(29, 2, n), np.full(n, 29.0)), (np.full(n, 2.0), np.linspace(29, 2, n)))
        ]
    )
    ring = np.arange(len(border))
    xy = np.stack([np.broadcast_to(inner, border.shape), border, border[(ring + 1) % len(ring)]], 1)
    xy = xy[np.abs(np.cross(xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0])) > 0]
    ones = np.ones(xy.shape[:2])
    triangles = Triangles(xy, ones, ones, np.arange(len(xy)), np.zeros((0, 3, 3)), perspective=True)
    pixel, _, _ = _fragments(triangles, 32, 32, 0.0)
    count = np.bincount(pixel, minlength=32 * 32).reshape(32, 32)
    expected = np.zeros((32, 32), int)
    expected[2:29, 2:29] = 1  # left and top edges belong to the square, right and bottom ones do not
    np.testing.assert_array_equal(count, expected)


def test_faces_behind_the_camera_are_cut_not_mirrored() -> None:
    floor = np.array([[-1, 0.5, -5], [1, 0.5, -5], [1, 0.5, 5], [-1, 0.5, 5]], np.float32)
    f = np.array([[0, 2, 1], [0, 3, 2]])
    buffers = rasterize(floor, f, CAMERA)
    seen = buffers.face != NOTHING
    assert seen[: CAMERA.height // 2].sum() == 0  # nothing above the horizon
    y, x = np.nonzero(seen)
    _, ray = CAMERA.rays(np.stack([x, y], 1).astype(np.float64))
    np.testing.assert_allclose(buffers.depth[y, x], 0.5 / ray[:, 1], rtol=5e-5)
    point = (floor[f[buffers.face[y, x]]] * buffers.barycentric[y, x][..., None]).sum(1)
    np.testing.assert_allclose(point, ray * (0.5 / ray[:, 1])[:, None], atol=1e-3)
    behind = floor - np.array([0, 0, 6], np.float32)
    assert (rasterize(behind, f, CAMERA).face == NOTHING).all()


def test_culling_drops_what_is_seen_from_behind() -> None:
    v, f = quad((2.0,) * 4)
    assert (rasterize(v, f, CAMERA, cull=True).face != NOTHING).any()
    assert (rasterize(v, f[:, ::-1], CAMERA, cull=True).face == NOTHING).all()
    assert (rasterize(v, f[:, ::-1], CAMERA).face != NOTHING).any()


def test_weak_perspective_is_the_camera_of_dice() -> None:
    """u = s X + c1, v = s Y + c2 with s = 10 |c0| at 224 pixels; a crop twice as large scales all three."""
    point = np.array([[0.05, -0.08, 0.3]])
    camera = WeakPerspectiveCamera.from_dice((-64.0, 110.0, 115.0))
    np.testing.assert_allclose(camera.project(point), [[640 * 0.05 + 110, 640 * -0.08 + 115]])
    large = WeakPerspectiveCamera.from_dice((-64.0, 110.0, 115.0), size=448)
    np.testing.assert_allclose(large.project(point), 2 * camera.project(point))
    v, f = quad((0.1, 0.2, 0.2, 0.1), half=0.0999)  # z = 0.15 + 0.05 x / 0.0999
    buffers = rasterize(v, f, camera)
    y, x = np.nonzero(buffers.face != NOTHING)
    assert len(y) == 127 * 127  # pixels within 63.9 of the middle
    np.testing.assert_allclose(buffers.depth[y, x], 0.15 + (x - 110) / 640 * 0.05 / 0.0999, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3])
def test_supersampled_cameras_put_samples_evenly_around_the_pixel(factor: int) -> None:
    point = np.array([[0.03, -0.07, 1.4]])
    for camera in (CAMERA, WeakPerspectiveCamera(300.0, (40.0, 50.0))):
        fine = camera.supersampled(factor)
        assert fine.width == camera.width * factor
        np.testing.assert_allclose((fine.project(point) + 0.5) / factor - 0.5, camera.project(point), atol=1e-9)


def test_a_pixel_is_as_grey_as_it_is_covered() -> None:
    """A white square that ends at x = 40.25 pixels covers 3/4 of column 40 (samples at -3/8, -1/8, 1/8, 3/8: three are inside)."""
    camera = WeakPerspectiveCamera(10.0, (0.0, 0.0), 64, 64)
    v = np.array([[1, 1, 1], [4.025 + 1e-4, 1, 1], [4.025 + 1e-4, 4, 1], [1, 4, 1]], np.float32)
    mesh = Mesh(v, np.array([[0, 2, 1], [0, 3, 2]]), Material(Texture.plain((1.0, 1.0, 1.0)), specular=0.0))
    picture = render([mesh], camera, FLAT, supersample=4)
    np.testing.assert_allclose(picture.colour[20, 38:42, 0], [1, 1, 0.75, 0], atol=1e-5)
    np.testing.assert_allclose(picture.coverage[20, 38:42], [1, 1, 0.75, 0])


def test_texture_is_perspective_correct() -> None:
    """On a plane tilted away the texture coordinate under a pixel is that of the point in space, not of the screen."""
    ramp = np.repeat(np.linspace(0, 1, 256, dtype=np.float32)[None, :, None], 3, axis=2).repeat(4, 0)
    v, f = quad((1.0, 3.0, 3.0, 1.0), half=0.5)
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)
    mesh = Mesh(v, f, Material(Texture(ramp), specular=0.0), uv=uv)
    picture = render([mesh], CAMERA, FLAT, supersample=1)
    y, x = np.nonzero(picture.mesh == 0)
    _, ray = CAMERA.rays(np.stack([x, y], 1).astype(np.float64))
    place = ray[:, 0] * 2 / (1 - 2 * ray[:, 0])  # X where the ray meets z = 2 + 2 X
    np.testing.assert_allclose(picture.colour[y, x, 0], place + 0.5, atol=0.01)


def test_a_blocker_throws_a_soft_shadow_where_geometry_says() -> None:
    v, f = quad((2.0,) * 4)
    blocker = np.array([[-0.2, -0.2, 1.5], [0.2, -0.2, 1.5], [0.2, 0.2, 1.5], [-0.2, 0.2, 1.5]], np.float32)
    white = Material(Texture.plain((1.0, 1.0, 1.0)), specular=0.0, scatter=0.0)
    light = DirectionalLight((1.0, 0.0, -1.0))  # the shadow falls 0.5 m to the left
    lighting = Lighting(lights=(light,), sky=(0, 0, 0), ground=(0, 0, 0))
    camera = WeakPerspectiveCamera(40.0, (48.0, 48.0), 96, 96)
    lit = render([Mesh(v, f, white)], camera, lighting, supersample=1).colour[48, 28, 1]
    assert lit == pytest.approx(np.sqrt(0.5), abs=0.02)
    picture = render([Mesh(v, f, white), Mesh(blocker, f, white)], camera, lighting, supersample=1)
    assert picture.colour[48, 28, 1] < 0.01  # X = -0.5
    assert picture.colour[48, 16, 1] == pytest.approx(lit, abs=0.02)
    edge = picture.colour[48, 16:29, 1]
    assert ((edge > 0.1 * lit) & (edge < 0.9 * lit)).any()


def test_an_empty_scene_is_the_background() -> None:
    background = np.random.default_rng(0).random((80, 96, 3)).astype(np.float32)
    mesh = Mesh(np.array([[0, 0, -1], [1, 0, -1], [0, 1, -1]], np.float32), np.array([[0, 1, 2]]))
    picture = render([mesh], CAMERA, background=background)
    np.testing.assert_array_equal(picture.colour, background)
    assert (picture.buffers.face == NOTHING).all()


def test_srgb_round_trip() -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    np.testing.assert_array_equal(to_srgb(to_linear(levels)), levels)
