"""Mesh files for other programs: hand and head with vertex colours as glb, ply or obj."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from handface.model.outputs.colours import HAND, HEAD, Ramp
from handface.model.outputs.glb import GlbMesh, encode_glb
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
    """A file's bytes. Metres, x right, y up, z towards the viewer; contact is in the vertex colours; vertices keep their numbers.

    glb: two nodes, `hand` and `head`, with the probability of contact as the vertex attribute `_CONTACT`; ply and obj: one mesh,
    the hand's vertices first. An untrained network's file says so: in the glb's node names and scene extras, in a comment of ply
    and obj.
    """
    if kind == "glb":
        return _glb(person, trained)
    from trimesh.exchange.obj import export_obj
    from trimesh.exchange.ply import export_ply

    both = _coloured(person.hand, HAND) + _coloured(person.head, HEAD)
    comment = "" if trained else NOTE
    if kind == "obj":
        return export_obj(both, header=comment or None, include_normals=False).encode()
    data: bytes = export_ply(both, vertex_normal=False)
    first, _, rest = data.partition(b"\n")
    form, _, rest = rest.partition(b"\n")
    return b"\n".join([first, form, *([f"comment {comment}".encode()] if comment else []), rest])


def _glb(person: Person, trained: bool) -> bytes:
    meshes = []
    for name, part, ramp in (("hand", person.hand, HAND), ("head", person.head, HEAD)):
        named = name if trained else f"{name} (untrained)"
        contact = {"_CONTACT": np.nan_to_num(part.contact)}
        meshes.append(GlbMesh(named, upright(part.vertices), part.faces, ramp.colours(part.contact), contact))
    presence = float(person.presence) if np.isfinite(person.presence) else None
    return encode_glb(meshes, {"trained": trained, "side": person.side, "presence": presence})


def glb_extras(data: bytes) -> dict[str, object]:
    """What a glb of ours says about itself: trained, side, presence. Raises ValueError if it is none."""
    if data[:4] != b"glTF":
        raise ValueError("no glb file")
    length = int.from_bytes(data[12:16], "little")
    extras: dict[str, object] = json.loads(data[20 : 20 + length])["scenes"][0].get("extras", {})
    return extras


def _coloured(part: Part, ramp: Ramp) -> Trimesh:
    import trimesh

    colours = ramp.colours(part.contact)
    return trimesh.Trimesh(upright(part.vertices), part.faces, vertex_colors=colours, process=False)
