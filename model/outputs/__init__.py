"""What people get of a prediction: pictures over the photo, contact maps, mesh files, numbers. All say when it is untrained."""

from handface.model.outputs.banner import BANNER, with_banner
from handface.model.outputs.coco import to_coco
from handface.model.outputs.contact_map import draw_contact_map
from handface.model.outputs.mesh_files import MESH_FORMATS, MeshFormat, encode_mesh
from handface.model.outputs.overlay import OverlayConfig, draw_overlay
from handface.model.outputs.parameters import named_parameters, write_parameters
from handface.model.outputs.recording import write_recording
from handface.model.outputs.records import RecordError, read_record, write_record

__all__ = [
    "BANNER",
    "MESH_FORMATS",
    "MeshFormat",
    "OverlayConfig",
    "RecordError",
    "draw_contact_map",
    "draw_overlay",
    "encode_mesh",
    "named_parameters",
    "read_record",
    "to_coco",
    "with_banner",
    "write_parameters",
    "write_record",
    "write_recording",
]
