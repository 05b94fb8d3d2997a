"""Which triangle each pixel sees: half-open scanline spans into a z-buffer, all triangles at once.

A pixel belongs to a triangle when its centre lies inside; a centre exactly on an edge belongs to the triangle on its right or below
(the top-left rule). Both triangles at an edge compute its crossing with a row from the same numbers in the same order, so that
meshes have neither cracks nor pixels hit twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.render.camera import Camera
from handface.model.render.clip import clip_near

NOTHING = -1  # the face id of a pixel that sees no face


@dataclass(frozen=True)
class Triangles:
    """Triangles on the image plane. What is affine there decides who is in front.

    xy: (T, 3, 2) pixels.  nearness: (T, 3), affine across the image and larger when nearer (1/z, or -z for parallel rays).
    depth: (T, 3) metres.  parent: (T,) the face each comes from.  corners: (T - first_cut, 3, 3) barycentrics of the corners in
    their parent, for the pieces that the near plane cut (the last ones); all others are whole faces.
    """

    xy: NDArray[np.float64]
    nearness: NDArray[np.float64]
    depth: NDArray[np.float64]
    parent: NDArray[np.int64]
    corners: NDArray[np.float64]
    perspective: bool

    def barycentrics(self, index: NDArray[np.integer], x: NDArray[np.integer], y: NDArray[np.integer]) -> tuple:
        """Perspective-correct barycentrics (N, 3) in the parent face and depth (N,) where triangle `index` covers pixel x, y."""
        origin, inverse = self._frames()
        o, m = origin[index], inverse[index]
        dx, dy = x - o[:, 0], y - o[:, 1]
        weights = np.empty((len(index), 3), np.float32)
        weights[:, 1] = m[:, 0] * dx + m[:, 1] * dy
        weights[:, 2] = m[:, 2] * dx + m[:, 3] * dy
        weights[:, 0] = 1 - weights[:, 1] - weights[:, 2]
        np.clip(weights, 0, 1, out=weights)
        if self.perspective:
            weights *= self.nearness.astype(np.float32)[index]
        weights /= weights.sum(1, keepdims=True)
        depth = (weights * self.depth.astype(np.float32)[index]).sum(1)
        first_cut = len(self.xy) - len(self.corners)
        cut = np.flatnonzero(index >= first_cut)
        if len(cut):
            weights[cut] = np.einsum("nk,nkj->nj", weights[cut], self.corners[index[cut] - first_cut])
        return weights, depth

    def _frames(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """First corner (T, 2) and the inverse of the two edge vectors (T, 4), row by row."""
        a, b, c = self.xy[:, 0], self.xy[:, 1] - self.xy[:, 0], self.xy[:, 2] - self.xy[:, 0]
        area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]
        inverse = np.stack([c[:, 1], -c[:, 0], -b[:, 1], b[:, 0]], 1) / np.where(area == 0, 1, area)[:, None]
        return a, inverse


@dataclass(frozen=True)
class Buffers:
    """What each pixel centre sees. face: (H, W) int32, NOTHING where empty.  barycentric: (H, W, 3) float32.  depth: (H, W) float32 z, inf."""

    face: NDArray[np.int32]
    barycentric: NDArray[np.float32]
    depth: NDArray[np.float32]


def rasterize(
    vertices: NDArray[np.float32], faces: NDArray[np.int64], camera: Camera, *, cull: bool = False
) -> Buffers:
    """Face, barycentrics and depth at every pixel. vertices: (V, 3) camera axes.  faces: (F, 3).  cull: drop faces seen from behind."""
    triangles = project_triangles(vertices, faces, camera, cull=cull)
    winner, _ = nearest(triangles, camera.width, camera.height)
    face = np.full(winner.shape, NOTHING, np.int32)
    barycentric = np.zeros((*winner.shape, 3), np.float32)
    depth = np.full(winner.shape, np.inf, np.float32)
    y, x = np.nonzero(winner >= 0)
    index = winner[y, x]
    face[y, x] = triangles.parent[index]
    barycentric[y, x], depth[y, x] = triangles.barycentrics(index, x, y)
    return Buffers(face, barycentric, depth)


def project_triangles(
    vertices: NDArray[np.float32], faces: NDArray[np.int64], camera: Camera, *, cull: bool
) -> Triangles:
    """The triangles that may show: cut at the near plane, projected, those without area (and, if `cull`, from behind) dropped."""
    points = np.asarray(vertices, np.float64)
    corners = np.zeros((0, 3, 3))
    parent = np.arange(len(faces))
    if camera.near is None:
        view = points[faces]
    else:
        view, parent, corners = clip_near(points, faces, camera.near)
    xy = np.asarray(camera.project(view), np.float64)
    depth = view[..., 2]
    nearness = -depth if camera.near is None else 1 / depth
    b, c = xy[:, 1] - xy[:, 0], xy[:, 2] - xy[:, 0]
    area = b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0]  # negative when the outside faces the camera, for y points down
    low, high = xy.min(1), xy.max(1)
    shows = (area < 0) if cull else (area != 0)
    shows &= (high >= 0).all(1) & (low[:, 0] <= camera.width - 1) & (low[:, 1] <= camera.height - 1)
    cut = shows[len(shows) - len(corners) :] if len(corners) else np.zeros(0, bool)
    return Triangles(
        xy[shows], nearness[shows], depth[shows], parent[shows], corners[cut], perspective=camera.near is not None
    )


def nearest(triangles: Triangles, width: int, height: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The z-buffer: index of the nearest triangle at each pixel, -1 for none, and its nearness above the farthest corner, both (H, W)."""
    winner = np.full((height, width), -1, np.int32)
    if not len(triangles.xy):
        return winner, np.zeros((height, width), np.float32)
    base = 0.0 if triangles.perspective else float(triangles.nearness.min()) - 1.0
    pixel, nearness, index = _fragments(triangles, width, height, base)
    # positive floats sort like their bits: one integer maximum decides depth, then index
    key = nearness.view(np.int32).astype(np.int64)
    key <<= 32
    key |= index
    best = np.full(width * height, -1, np.int64)
    np.maximum.at(best, pixel, key)
    hit = best >= 0
    flat = winner.reshape(-1)
    flat[hit] = (best[hit] & 0xFFFFFFFF).astype(np.int32)
    values = np.where(hit, best >> 32, 0).astype(np.int32).view(np.float32)
    return winner, values.reshape(height, width)


def _fragments(triangles: Triangles, width: int, height: int, base: float) -> tuple:
    """Every pixel of every triangle: pixel number (N,) int64, nearness - base (N,) float32 > 0, triangle (N,) int32."""
    top, middle, bottom = _by_height(triangles, base)
    first = np.clip(np.ceil(top[:, 1]), 0, height).astype(np.int64)
    last = np.clip(np.ceil(bottom[:, 1]), 0, height).astype(np.int64)
    rows = np.maximum(last - first, 0)
    triangle = np.repeat(np.arange(len(rows)), rows)
    y = np.arange(len(triangle)) - np.repeat(np.cumsum(rows) - rows - first, rows)
    upper = y < middle[triangle, 1]
    start = np.where(upper, triangle, triangle + len(top))  # the short side: top-middle above, middle-bottom below
    x0, n0 = _crossing(top, bottom, triangle, y)
    x1, n1 = _crossing(np.concatenate([top, middle]), np.concatenate([middle, bottom]), start, y)
    swap = x0 > x1
    left, right = np.where(swap, x1, x0), np.where(swap, x0, x1)
    near_left = np.where(swap, n1, n0)
    slope = np.where(swap, n0 - n1, n1 - n0) / np.where(right > left, right - left, 1)
    begin = np.clip(np.ceil(left), 0, width).astype(np.int64)
    end = np.clip(np.ceil(right), 0, width).astype(np.int64)
    keep = np.flatnonzero(end > begin)
    begin, count = begin[keep], (end - begin)[keep]
    step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    pixel = np.repeat(y[keep] * width + begin, count)
    pixel += step
    near_begin = (near_left[keep] + (begin - left[keep]) * slope[keep]).astype(np.float32)
    nearness = np.repeat(slope[keep].astype(np.float32), count)
    nearness *= step
    nearness += np.repeat(near_begin, count)
    np.maximum(nearness, np.float32(1e-30), out=nearness)
    return pixel, nearness, np.repeat(triangle[keep].astype(np.int32), count)


def _by_height(triangles: Triangles, base: float) -> tuple:
    """Corners as rows x, y, nearness - base, sorted by y and then x: top, middle, bottom, each (T, 3)."""
    corner = np.concatenate([triangles.xy, (triangles.nearness - base)[..., None]], -1)
    order = np.lexsort((corner[..., 0], corner[..., 1]), axis=-1)
    corner = np.take_along_axis(corner, order[..., None], axis=1)
    return corner[:, 0], corner[:, 1], corner[:, 2]


def _crossing(upper: NDArray, lower: NDArray, edge: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """x and nearness where edges (upper[i] to lower[i]) cross rows y. Both faces at an edge come here with the same numbers."""
    height = lower[:, 1] - upper[:, 1]
    slope = (lower - upper) / np.where(height == 0, 1, height)[:, None]
    t = y - upper[edge, 1]
    return upper[edge, 0] + t * slope[edge, 0], upper[edge, 2] + t * slope[edge, 2]
