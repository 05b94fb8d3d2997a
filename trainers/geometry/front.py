"""The z-buffer at given points: what surface of a mesh is first on the line of sight, differentiable, without drawing a picture."""

from __future__ import annotations

import torch

from handface.trainers.geometry.crossing import edge_functions
from handface.trainers.geometry.grid import candidates


def front_depth(
    points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor, cull: bool | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """z of the surface nearest to the camera at points of the image plane, (B, N) metres, and whether there is one, (B, N) bool.

    points: (B, N, 2) x, y in metres, orthographic view along +z.  vertices: (B, V, 3).  faces: (F, 3), either side counts.
    The triangle is chosen outside the graph; z = sum_i w_i z_i with barycentric weights w(x, y) is differentiable in points and
    vertices. 0 where no surface is met.  cull: as in `winding_number`.
    """
    use_grid = cull if cull is not None else points.device.type == "cpu"
    face, hit = (_nearest_culled if use_grid else _nearest)(points.detach(), vertices.detach(), faces)
    index = faces[face].flatten(1)  # (B, 3 N)
    corners = vertices.gather(1, index[..., None].expand(*index.shape, 3)).unflatten(1, (-1, 3))  # (B, N, 3, 3)
    u, v, w = edge_functions(corners, points[..., 0], points[..., 1])
    area = u + v + w
    z = u * corners[..., 0, 2] + v * corners[..., 1, 2] + w * corners[..., 2, 2]
    return torch.where(hit, z / torch.where(hit & (area != 0), area, 1.0), 0.0), hit


def _nearest(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first triangle at each point, (B, N), and whether there is one; every point against every triangle."""
    height, face = _height(vertices[:, faces][:, None], points[:, :, None]).min(-1)
    return face, height.isfinite()


def _nearest_culled(
    points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same against the triangles near each point only."""
    shape = points.shape[:2]
    point, sample, face = candidates(points, vertices, faces)
    height = _height(vertices[sample[:, None], faces[face]], points.flatten(0, 1)[point])
    first = height.new_full((shape.numel(),), torch.inf).scatter_reduce_(0, point, height, "amin")
    chosen = (height == first[point]) & height.isfinite()
    found = torch.zeros_like(first, dtype=torch.int64)
    found[point[chosen]] = face[chosen]
    return found.view(shape), first.isfinite().view(shape)


def _height(corners: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """z of each triangle on the z-line of (x, y), inf where it is missed. corners: (..., 3, 3).  points: (..., 2)."""
    u, v, w = edge_functions(corners, points[..., 0], points[..., 1])
    area = u + v + w
    met = (((u >= 0) & (v >= 0) & (w >= 0)) | ((u <= 0) & (v <= 0) & (w <= 0))) & (area != 0)
    height = (u * corners[..., 0, 2] + v * corners[..., 1, 2] + w * corners[..., 2, 2]) / torch.where(met, area, 1.0)
    return torch.where(met, height, torch.inf)
