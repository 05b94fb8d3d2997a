"""What people get of a prediction: pictures over the photo, contact maps, mesh files, numbers. All say when it is untrained."""

from model.outputs.banner import BANNER, with_banner
from model.outputs.contact_map import draw_contact_map
from model.outputs.mesh_files import MESH_FORMATS, MeshFormat, encode_mesh
from model.outputs.overlay import OverlayConfig, draw_overlay
from model.outputs.recording import write_recording
from model.outputs.records import RecordError, read_record, write_record

__all__ = [
    "BANNER",
    "MESH_FORMATS",
    "MeshFormat",
    "OverlayConfig",
    "RecordError",
    "draw_contact_map",
    "draw_overlay",
    "encode_mesh",
    "read_record",
    "with_banner",
    "write_record",
    "write_recording",
]
