"""Batched mesh geometry on the device: inside test, nearest surface point, front surface. No host synchronisation on an accelerator."""

from handface.trainers.geometry.closed import boundary_rings, closed_faces, vertex_faces
from handface.trainers.geometry.compact import compact, take
from handface.trainers.geometry.front import front_depth
from handface.trainers.geometry.inside import inside, winding_number
from handface.trainers.geometry.nearest import nearest_surface, nearest_vertex

__all__ = [
    "boundary_rings",
    "closed_faces",
    "compact",
    "front_depth",
    "inside",
    "nearest_surface",
    "nearest_vertex",
    "take",
    "vertex_faces",
    "winding_number",
]
