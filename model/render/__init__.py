"""Pictures, depth and visibility from meshes: a z-buffer rasteriser in numpy, no GL."""

from model.render.camera import Camera, PerspectiveCamera, WeakPerspectiveCamera
from model.render.mesh import Material, Mesh, vertex_normals
from model.render.picture import Picture, render
from model.render.raster import NOTHING, Buffers, rasterize
from model.render.shade import DirectionalLight, Lighting
from model.render.texture import Texture

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
