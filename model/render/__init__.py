"""Pictures, depth and visibility from meshes: a z-buffer rasteriser in numpy, no GL."""

from handface.model.render.camera import Camera, PerspectiveCamera, WeakPerspectiveCamera
from handface.model.render.mesh import Material, Mesh, vertex_normals
from handface.model.render.picture import Picture, render
from handface.model.render.raster import NOTHING, Buffers, rasterize
from handface.model.render.shade import DirectionalLight, Lighting
from handface.model.render.texture import Texture

__all__ = [
    "NOTHING",
    "Buffers",
    "Camera",
    "DirectionalLight",
    "Lighting",
    "Material",
    "Mesh",
    "PerspectiveCamera",
    "Picture",
    "Texture",
    "WeakPerspectiveCamera",
    "rasterize",
    "render",
    "vertex_normals",
]
