"""The z-buffer at given points: what surface of a mesh is first on the line of sight, differentiable, without drawing a picture."""

from __future__ import annotations

import torch

from trainers.geometry.crossing import edge_functions


def front_depth(points: torch.Tensor, vertices: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """z of the surface nearest to the camera at points of the image plane, (B, N) metres, and whether there is one, (B, N) bool.

    points: (B, N, 2) x, y in metres, orthographic view along +z.  vertices: (B, V, 3).  faces: (F, 3), either side counts.
    The triangle is chosen outside the graph; z = sum_i w_i z_i with barycentric weights w(x, y) is differentiable in points and
    vertices. 0 where no surface is met.
    """
    with torch.no_grad():
        u, v, w = edge_functions(vertices[:, faces][:, None], points[..., :1], points[..., 1:])  # (B, N, F)
        met = ((u >= 0) & (v >= 0) & (w >= 0)) | ((u <= 0) & (v <= 0) & (w <= 0))
        area = u + v + w
        z = vertices[..., 2][:, faces][:, None]  # (B, 1, F, 3)
        height = (u * z[..., 0] + v * z[..., 1] + w * z[..., 2]) / torch.where(area == 0, 1.0, area)
        nearest, face = torch.where(met & (area != 0), height, torch.inf).min(-1)
        hit = nearest.isfinite()
    index = faces[face].flatten(1)  # (B, 3 N)
    corners = vertices.gather(1, index[..., None].expand(*index.shape, 3)).unflatten(1, (-1, 3))  # (B, N, 3, 3)
    u, v, w = edge_functions(corners, points[..., 0], points[..., 1])
    area = u + v + w
    z = u * corners[..., 0, 2] + v * corners[..., 1, 2] + w * corners[..., 2, 2]
    return torch.where(hit, z / torch.where(hit & (area != 0), area, 1.0), 0.0), hit
