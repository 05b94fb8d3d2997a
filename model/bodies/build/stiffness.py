"""How hard the head is under the skin: a proxy from fat and mobility, as the data hold no skull."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from handface.model.bodies.build.region import SurfaceRegion
from handface.model.bodies.build.wheel import HumanData

# (target, sign): how far the skin moves out with fat, or in without
_FAT = (
    ("head/head-fat-incr", 1.0),
    ("head/head-fat-decr", -1.0),
    ("cheek/l-cheek-volume-incr", 1.0),
    ("cheek/r-cheek-volume-incr", 1.0),
    ("neck/neck-double-incr", 1.0),
)
_SMOOTHING_STEPS = 4
_FRONT = 0.0  # only the front half of the head sets the scale of "much fat"


def head_stiffness(
    human: HumanData,
    region: SurfaceRegion,
    template: NDArray[np.float64],
    expressions: NDArray[np.float64],
    names: Sequence[str],
    mirror: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Stiffness (V,) in [0, 1] = 1 - max(sqrt(fat), sqrt(mobility)), smoothed over neighbours and averaged left and right.

    template: (V, 3).  expressions: (V, 3, E) with `names`; the jaw units are left out, as they move the chin with its bone.
    """
    normals = _vertex_normals(template, region.faces)
    fat = np.zeros(len(template))
    for target, sign in _FAT:
        outward = (human.displacement(target)[region.vertex_ids] * normals).sum(1)
        fat += np.clip(sign * outward, 0, None)
    face = [index for index, name in enumerate(names) if not name.startswith("jaw")]
    mobility = np.sqrt((expressions[:, :, face] ** 2).sum(1).mean(1))
    scale = np.percentile(fat[template[:, 2] > _FRONT], 95)
    softness = np.sqrt(np.clip(np.maximum(fat / scale, mobility / np.percentile(mobility, 95)), 0, 1))
    average = _neighbour_average(region.faces, len(template))
    for _ in range(_SMOOTHING_STEPS):
        softness = 0.5 * softness + 0.5 * (average @ softness)
    stiffness: NDArray[np.float64] = 1 - np.clip(softness, 0, 1)
    return (stiffness + stiffness[mirror]) / 2


def _vertex_normals(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = np.zeros_like(vertices)
    for corner in faces.T:
        np.add.at(normals, corner, np.cross(b - a, c - a))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def _neighbour_average(faces: NDArray[np.int64], count: int) -> sp.csr_matrix:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    adjacency = sp.csr_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
    return sp.diags(1 / np.maximum(np.asarray(adjacency.sum(1)).ravel(), 1)) @ adjacency
