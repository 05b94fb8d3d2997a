"""The entry of the renderer: meshes, a camera and light in, a picture with its geometry buffers out.

Colour is shaded once per pixel at its centre; only pixels in which something ends (another mesh, a jump in depth) are shaded at
all of their samples. Interiors of surfaces do not need more, for textures are filtered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.render.camera import Camera
from handface.model.render.mesh import Mesh, vertex_normals
from handface.model.render.raster import NOTHING, Buffers, Triangles, nearest, project_triangles
from handface.model.render.shade import Lighting, ShadowMap, shade

DEPTH_JUMP = 0.004  # relative change of nearness inside a pixel that counts as an outline (2.4 mm at 0.6 m)


@dataclass(frozen=True)
class Picture:
    """A rendered picture. colour: (H, W, 3) float32 linear light.  buffers: at pixel centres, faces numbered through all meshes.

    mesh: (H, W) int32, which mesh, NOTHING for the background.  coverage: (H, W) float32 share of samples that hit a mesh.
    """

    colour: NDArray[np.float32]
    buffers: Buffers
    mesh: NDArray[np.int32]
    coverage: NDArray[np.float32]


def render(
    meshes: Sequence[Mesh],
    camera: Camera,
    lighting: Lighting | None = None,
    background: NDArray[np.float32] | None = None,
    *,
    supersample: int = 2,
    cull: bool = True,
) -> Picture:
    """Draw meshes. background: (H, W, 3) linear light, black if None.  supersample: samples along each side of a pixel."""
    lighting = lighting or Lighting()
    stage = _Stage(meshes, camera, lighting, cull)
    centre = stage.triangles(camera)
    winner, _ = nearest(centre, camera.width, camera.height)
    colour = np.zeros((camera.height, camera.width, 3), np.float32)
    if background is not None:
        colour[:] = background
    y, x = np.nonzero(winner >= 0)
    index = winner[y, x]
    weights, depth = centre.barycentrics(index, x, y)
    faces = centre.parent[index]
    buffers = _buffers(winner.shape, y, x, faces, weights, depth)
    mesh = np.full(winner.shape, NOTHING, np.int32)
    mesh[y, x] = stage.mesh_of_face[faces]
    coverage = (winner >= 0).astype(np.float32)
    if supersample <= 1:
        colour[y, x] = stage.shade(faces, weights, np.stack([x, y], 1))
        return Picture(colour, buffers, mesh, coverage)
    fine = camera.supersampled(supersample)
    fine_triangles = stage.triangles(fine)
    samples, nearness = (_by_pixel(a, supersample) for a in nearest(fine_triangles, fine.width, fine.height))
    hit = samples >= 0
    sample_mesh = np.where(hit, stage.mesh_of_face[fine_triangles.parent[samples]], NOTHING) if hit.any() else samples
    low, high = nearness.min(0), nearness.max(0)
    outline = (sample_mesh != mesh).any(0) | (high - low > DEPTH_JUMP * np.abs(high))
    inner = ~outline[y, x]
    colour[y[inner], x[inner]] = stage.shade(faces[inner], weights[inner], np.stack([x[inner], y[inner]], 1))
    coverage = hit.mean(0, dtype=np.float32)
    oy, ox = np.nonzero(outline)
    behind = colour[oy, ox] if background is None else background[oy, ox]
    colour[oy, ox] = stage.average(fine_triangles, fine, samples[:, oy, ox].T, oy, ox, behind, supersample)
    return Picture(colour, buffers, mesh, coverage)


class _Stage:
    """All meshes as one, with what shading needs of every face."""

    def __init__(self, meshes: Sequence[Mesh], camera: Camera, lighting: Lighting, cull: bool) -> None:
        offsets = np.cumsum([0] + [len(m.vertices) for m in meshes])
        self.camera, self.lighting, self.cull, self.meshes = camera, lighting, cull, meshes
        self.vertices = np.concatenate([np.asarray(m.vertices, np.float32) for m in meshes])
        self.faces = np.concatenate([m.faces + o for m, o in zip(meshes, offsets, strict=False)])
        self.normals = np.concatenate(
            [vertex_normals(m.vertices, m.faces) if m.normals is None else m.normals for m in meshes]
        )
        self.attributes = np.concatenate([self.vertices, self.normals], 1)
        self.corner_uv = np.concatenate([m.corner_uv() for m in meshes])
        self.mesh_of_face = np.repeat(np.arange(len(meshes), dtype=np.int32), [len(m.faces) for m in meshes])
        self.specular = np.array([m.material.specular for m in meshes], np.float32)
        self.scatter = np.array([m.material.scatter for m in meshes], np.float32)
        self.levels = [self._level(k) for k in range(len(meshes))]
        size = lighting.shadow_size if lighting.lights else 0
        self.shadow_map = ShadowMap(self.vertices, self.faces, lighting.lights[0], size) if size else None

    def triangles(self, camera: Camera) -> Triangles:
        return project_triangles(self.vertices, self.faces, camera, cull=self.cull)

    def shade(self, faces: NDArray, weights: NDArray, pixels: NDArray) -> NDArray[np.float32]:
        """Light from points given by face (N,), barycentrics (N, 3) and the pixel (N, 2) that sees them. Returns (N, 3)."""
        corner = self.faces[faces]
        attributes = sum(self.attributes[corner[:, k]] * weights[:, k : k + 1] for k in range(3))
        corner_uv = self.corner_uv[faces]
        uv = sum(corner_uv[:, k] * weights[:, k : k + 1] for k in range(3))
        points, normals = attributes[:, :3], attributes[:, 3:]
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
        mesh = self.mesh_of_face[faces]
        albedo = np.empty((len(faces), 3), np.float32)
        for k in np.unique(mesh):
            mine = np.flatnonzero(mesh == k)
            albedo[mine] = self.meshes[k].material.texture.sample(uv[mine], self.levels[k])
        shadow = None
        if self.shadow_map is not None:
            shadow = self.shadow_map.visibility(points, normals, self.lighting.shadow_softness)
        rays = self.camera.rays(pixels.astype(np.float32))[1].astype(np.float32)
        return shade(albedo, points, normals, self.specular[mesh], self.scatter[mesh], self.lighting, shadow, rays)

    def average(
        self,
        triangles: Triangles,
        fine: Camera,
        samples: NDArray,
        y: NDArray,
        x: NDArray,
        behind: NDArray[np.float32],
        supersample: int,
    ) -> NDArray[np.float32]:
        """Mean light of all samples of pixels. samples: (N, s*s) triangle or -1.  y, x: (N,).  behind: (N, 3). Returns (N, 3)."""
        light = np.repeat(behind[:, None], samples.shape[1], axis=1)
        pixel, sample = np.nonzero(samples >= 0)
        fx = x[pixel] * supersample + sample % supersample
        fy = y[pixel] * supersample + sample // supersample
        index = samples[pixel, sample]
        weights, _ = triangles.barycentrics(index, fx, fy)
        light[pixel, sample] = self.shade(triangles.parent[index], weights, np.stack([x[pixel], y[pixel]], 1))
        return light.mean(1)

    def _level(self, k: int) -> int:
        """The texture level of mesh k: the median of texels per pixel along a side over its faces."""
        mesh = self.meshes[k]
        height, width = mesh.material.texture.pixels.shape[:2]
        if height == width == 1:
            return 0
        uv = mesh.corner_uv() * np.array([width, height], np.float32)
        xy = self.camera.project(mesh.vertices)[mesh.faces]
        texels, pixels = _double_area(uv), _double_area(xy)
        useful = (pixels > 1e-3) & np.isfinite(pixels) & (mesh.vertices[mesh.faces, 2].min(1) > 0)
        if not useful.any():
            return 0
        return mesh.material.texture.level_for(float(np.sqrt(np.median(texels[useful] / pixels[useful]))))


def _double_area(corner: NDArray) -> NDArray:
    b, c = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    return np.abs(b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])


def _by_pixel(image: NDArray, factor: int) -> NDArray:
    """(H s, W s) -> (s*s, H, W), samples row by row."""
    return np.stack([image[row::factor, column::factor] for row in range(factor) for column in range(factor)])


def _buffers(
    shape: tuple[int, ...], y: NDArray, x: NDArray, faces: NDArray, weights: NDArray, depth: NDArray
) -> Buffers:
    face = np.full(shape, NOTHING, np.int32)
    barycentric = np.zeros((*shape, 3), np.float32)
    z = np.full(shape, np.inf, np.float32)
    face[y, x], barycentric[y, x], z[y, x] = faces, weights, depth
    return Buffers(face, barycentric, z)
