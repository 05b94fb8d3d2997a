"""Binary glTF as viewers want it: matt, two-sided, with normals, colours in linear light, and numbers of our own per vertex.

Without a material glTF means polished metal, without normals flat facets, and its vertex colours are linear and not sRGB: meshes
that leave that out look black or washed out in three.js, Blender and model viewers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.model.prediction.prediction import Floats
from handface.model.render.texture import to_linear

_FLOAT, _UINT32 = 5126, 5125
_VERTICES, _INDICES = 34962, 34963
_JSON, _BINARY = b"JSON", b"BIN\0"
_MATERIAL = {
    "name": "skin",
    "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 1], "metallicFactor": 0, "roughnessFactor": 0.9},
    "doubleSided": True,
}


@dataclass(frozen=True)
class GlbMesh:
    """One named node.

    vertices: (V, 3) metres, x right, y up, z towards the viewer.  faces: (F, 3).  colours: (V, 3) sRGB bytes.
    values: per vertex (V,), by names that start with an underscore, as glTF asks of what is not its own.
    """

    name: str
    vertices: Floats
    faces: NDArray[np.int64]
    colours: NDArray[np.uint8]
    values: Mapping[str, Floats]


def encode_glb(meshes: Sequence[GlbMesh], extras: Mapping[str, Any]) -> bytes:
    """A file's bytes; vertices keep their numbers. extras: what the scene says about itself."""
    buffers = _Buffers()
    document = {
        "asset": {"version": "2.0", "generator": "handface"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(meshes))), "extras": dict(extras)}],
        "nodes": [{"name": mesh.name, "mesh": number} for number, mesh in enumerate(meshes)],
        "meshes": [{"name": mesh.name, "primitives": [_primitive(mesh, buffers)]} for mesh in meshes],
        "materials": [_MATERIAL],
        "accessors": buffers.accessors,
        "bufferViews": buffers.views,
        "buffers": [{"byteLength": len(buffers.data)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    chunks = _chunk(_JSON, text + b" " * (-len(text) % 4)) + _chunk(_BINARY, bytes(buffers.data))
    return b"glTF" + np.array([2, 12 + len(chunks)], "<u4").tobytes() + chunks


def _chunk(kind: bytes, data: bytes) -> bytes:
    return np.array([len(data)], "<u4").tobytes() + kind + data


class _Buffers:
    """Arrays one behind the other, each with its view and accessor."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, int]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, array: NDArray[Any], target: int, bounds: bool = False) -> int:
        """Number of the array's accessor. array: (N,) or (N, 3) float32 or uint32. bounds: write its least and largest values."""
        kind = _UINT32 if array.dtype.kind == "u" else _FLOAT
        shape = "SCALAR" if array.ndim == 1 else f"VEC{array.shape[1]}"
        self.views.append({"buffer": 0, "byteOffset": len(self.data), "byteLength": array.nbytes, "target": target})
        accessor = {"bufferView": len(self.views) - 1, "componentType": kind, "count": len(array), "type": shape}
        if bounds and len(array):
            accessor |= {"min": array.min(0).tolist(), "max": array.max(0).tolist()}
        self.accessors.append(accessor)
        self.data += np.ascontiguousarray(array).tobytes()
        return len(self.accessors) - 1


def _primitive(mesh: GlbMesh, buffers: _Buffers) -> dict[str, Any]:
    vertices = np.asarray(mesh.vertices, "<f4")
    attributes = {
        "POSITION": buffers.add(vertices, _VERTICES, bounds=True),
        "NORMAL": buffers.add(vertex_normals(vertices, mesh.faces), _VERTICES),
        "COLOR_0": buffers.add(to_linear(mesh.colours).astype("<f4"), _VERTICES),
    }
    for name, values in mesh.values.items():
        attributes[name] = buffers.add(np.asarray(values, "<f4"), _VERTICES)
    indices = buffers.add(mesh.faces.astype("<u4").ravel(), _INDICES)
    return {"attributes": attributes, "indices": indices, "material": 0, "mode": 4}


def vertex_normals(vertices: Floats, faces: NDArray[np.int64]) -> NDArray[np.float32]:
    """(V, 3) unit normals, the mean of the faces' around each vertex by area; z where a vertex has no face with one."""
    corners = np.asarray(vertices, np.float64)[faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], areas)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    unit = np.where(length > 0, normals / np.where(length > 0, length, 1), [0, 0, 1])
    return unit.astype(np.float32)
