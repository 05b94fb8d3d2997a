"""How the face yields: the skin as an elastic sheet on a bed of springs, pushed by frictionless contacts.

Energy of a displacement u of the skin vertices (area-weighted, per unit of area):

    E(u) = 1/2 [ k |u|^2 + a |grad u|^2 + b |lap u|^2 ],   k = k0 softness^-2

The bed k is stiff over bone and weak over fat (the body's stiffness map), the sheet's tension a and bending b spread a dent over
its surroundings. A contact i asks that the skin point under a hand point move inward by its depth, n_i . u_i <= -d_i, and can only
push. With the compliance G = (d2E/du2)^-1, made once from the template, that is a small complementarity problem in the contact forces,

    0 <= f   perpendicular to   W f - d >= 0,   W_ij = (n_i . n_j) (B_i G B_j^T),   u = -G B^T (n f),

B_i being the barycentric weights of contact i's skin point. It is solved by an active set; there is no time step and no tuning per scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SOFT_LENGTH, STIFF_LENGTH = 0.014, 0.005  # metres over which a dent fades on the softest and the stiffest skin
BENDING_LENGTH = 0.006  # metres; rounds the dent's bottom


@dataclass(frozen=True)
class Contacts:
    """What pushes. corners: (M, 3) skin vertices.  weights: (M, 3) barycentrics.  normals: (M, 3) outward.  depth: (M,) metres."""

    corners: NDArray[np.int64]
    weights: NDArray[np.float64]
    normals: NDArray[np.float64]
    depth: NDArray[np.float64]


class Skin:
    """The yielding skin of one body. The scenes' own shapes differ too little from the template's to matter."""

    def __init__(self, template: NDArray, faces: NDArray, stiffness: NDArray, movable: NDArray[np.bool_]) -> None:
        """template: (V, 3).  faces: (F, 3).  stiffness: (V,) in [0, 1].  movable: (V,) vertices that yield at all."""
        from scipy.sparse.linalg import splu

        self.rows = np.flatnonzero(movable)
        self.local = np.full(len(template), -1)
        self.local[self.rows] = np.arange(len(self.rows))
        hessian = _hessian(np.asarray(template, np.float64), faces, np.asarray(stiffness, np.float64))
        inner = hessian[self.rows][:, self.rows].tocsc()
        self._factor = splu(inner, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}, diag_pivot_thresh=0.0)
        self._columns: dict[int, NDArray[np.float32]] = {}

    def compliance(self, columns: NDArray[np.int64]) -> NDArray[np.float32]:
        """Columns of G for some rows of `rows`, (R, N). Each is solved once, by itself: what was asked before changes no bit."""
        for column in set(columns.tolist()) - self._columns.keys():
            unit = np.zeros(len(self.rows))
            unit[column] = 1
            self._columns[column] = self._factor.solve(unit).astype(np.float32)
        return np.stack([self._columns[column] for column in columns.tolist()], 1)

    def displacement(self, contacts: Contacts, count: int) -> NDArray[np.float64]:
        """Least-energy displacement (count, 3) in metres that meets the contacts; those on immovable skin are left out."""
        corner = self.local[contacts.corners]
        weights = np.where(corner >= 0, contacts.weights, 0.0)
        usable = np.flatnonzero(weights.sum(1) > 0.3)
        u = np.zeros((count, 3))
        if not len(usable):
            return u
        corner, weights = np.maximum(corner[usable], 0), weights[usable]
        normals, depth = contacts.normals[usable], contacts.depth[usable]
        skin, index = np.unique(corner, return_inverse=True)
        columns = self.compliance(skin)
        index = index.reshape(corner.shape)
        block = columns[skin][index.reshape(-1, 1), index.reshape(1, -1)].reshape(len(usable), 3, len(usable), 3)
        work = np.einsum("ia,iajb,jb->ij", weights, block, weights, optimize=True) * (normals @ normals.T)
        force = complementarity(work, depth)
        pushing = np.flatnonzero(force > 0)
        load = (weights[pushing, :, None] * (force[pushing, None] * normals[pushing])[:, None]).reshape(-1, 3)
        u[self.rows] = -columns[:, index[pushing].reshape(-1)] @ load
        return u


def complementarity(matrix: NDArray, demand: NDArray, rounds: int = 25) -> NDArray[np.float64]:
    """Forces f >= 0 with W f >= d and f (W f - d) = 0, by an active set. matrix: (M, M) symmetric, positive.  demand: (M,)."""
    matrix = matrix + np.eye(len(matrix)) * (
        3e-3 * np.diag(matrix).mean()
    )  # contacts closer than the mesh can tell apart
    force = np.zeros(len(demand))
    active = demand > 0
    for _ in range(rounds):
        index = np.flatnonzero(active)
        if not len(index):
            break
        solved = np.linalg.solve(matrix[np.ix_(index, index)], demand[index])
        if (solved < 0).any():
            active[index[solved < 0]] = False
            continue
        force[:] = 0
        force[index] = solved
        short = (matrix @ force < demand - 1e-5) & ~active
        if not short.any():
            break
        active |= short
    return force


def _hessian(vertices: NDArray, faces: NDArray, stiffness: NDArray):  # type: ignore[no-untyped-def]
    """Second derivative of the energy, sparse (V, V): bed + tension + bending over the cotangent Laplacian."""
    from scipy import sparse

    laplacian, area = _cotangent(vertices, faces)
    softness = np.clip(1 - stiffness, 0, 1)
    length = STIFF_LENGTH + (SOFT_LENGTH - STIFF_LENGTH) * softness
    bed = (SOFT_LENGTH / length) ** 2
    tension = SOFT_LENGTH**2
    bending = BENDING_LENGTH**2 * SOFT_LENGTH**2
    return (
        sparse.diags(area * bed) + tension * laplacian + bending * laplacian @ sparse.diags(1 / area) @ laplacian
    ).tocsr()


def _cotangent(vertices: NDArray, faces: NDArray):  # type: ignore[no-untyped-def]
    """Cotangent Laplacian (V, V) sparse, positive semi-definite, negative cotangents cut off, and vertex areas (V,)."""
    from scipy import sparse

    count = len(vertices)
    rows, columns, values = [], [], []
    area = np.zeros(count)
    for k in range(3):
        i, j, o = faces[:, k], faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        a, b = vertices[i] - vertices[o], vertices[j] - vertices[o]
        double_area = np.maximum(np.linalg.norm(np.cross(a, b), axis=1), 1e-12)
        cotangent = np.clip((a * b).sum(1) / double_area, 0, 20) / 2
        rows += [i, j]
        columns += [j, i]
        values += [cotangent, cotangent]
        area += np.bincount(i, double_area / 6, count)
    weights = sparse.coo_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), (count, count)
    ).tocsr()
    return sparse.diags(np.asarray(weights.sum(1)).ravel()) - weights, np.maximum(area, 1e-9)
