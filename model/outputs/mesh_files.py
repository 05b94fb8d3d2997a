"""Mesh files for other programs: hand and head with vertex colours as glb, ply or obj."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from handface.model.outputs.colours import HAND, HEAD
from handface.model.prediction.prediction import Floats, Part, Person

if TYPE_CHECKING:
    from trimesh import Trimesh

MeshFormat = Literal["glb", "ply", "obj"]
MESH_FORMATS: tuple[MeshFormat, ...] = get_args(MeshFormat)
NOTE = "UNTRAINED NETWORK: THIS MESH MEANS NOTHING"


def upright(points: Floats) -> Floats:
    """Camera axes (y down, z forward) -> those of mesh viewers (x right, y up, z towards the viewer). points: (..., 3)."""
    return points * np.array([1, -1, -1], points.dtype)


def encode_mesh(person: Person, kind: MeshFormat, trained: bool) -> bytes:
    """A file's bytes. Metres, x right, y up, z towards the viewer; contact is in the vertex colours.

    glb: two nodes, `hand` and `head`; ply and obj: one mesh, the hand's vertices first. An untrained network's file says so: in
    the glb's node names and scene extras, in a comment of ply and obj.
    """
    meshes = {"hand": _coloured(person.hand, HAND.colours(person.hand.contact))}
    meshes["head"] = _coloured(person.head, HEAD.colours(person.head.contact))
    if kind == "glb":
        return _glb(meshes, person, trained)
    from trimesh.exchange.obj import export_obj
    from trimesh.exchange.ply import export_ply

    both = meshes["hand"] + meshes["head"]
    comment = "" if trained else NOTE
    if kind == "obj":
        return export_obj(both, header=comment or None, include_normals=False).encode()
    data: bytes = export_ply(both, vertex_normal=False)
    first, _, rest = data.partition(b"\n")
    form, _, rest = rest.partition(b"\n")
    return b"\n".join([first, form, *([f"comment {comment}".encode()] if comment else []), rest])


def _glb(meshes: dict[str, Trimesh], person: Person, trained: bool) -> bytes:
    import trimesh

    scene = trimesh.Scene()
    scene.metadata |= {"trained": trained, "side": person.side, "presence": float(person.presence)}
    for name, mesh in meshes.items():
        named = name if trained else f"{name} (untrained)"
        scene.add_geometry(mesh, node_name=named, geom_name=named)
    data: bytes = scene.export(file_type="glb")
    return data


def glb_extras(data: bytes) -> dict[str, object]:
    """What a glb of ours says about itself: trained, side, presence. Raises ValueError if it is none."""
    if data[:4] != b"glTF":
        raise ValueError("no glb file")
    length = int.from_bytes(data[12:16], "little")
    extras: dict[str, object] = json.loads(data[20 : 20 + length])["scenes"][0].get("extras", {})
    return extras


def _coloured(part: Part, colours: np.ndarray) -> Trimesh:
    import trimesh

    return trimesh.Trimesh(upright(part.vertices), part.faces, vertex_colors=colours, process=False)
