"""Light on surfaces: skin-like wrapped diffuse, two highlights, sky and ground, and a soft shadow of the first light."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.render.camera import WeakPerspectiveCamera
from handface.model.render.raster import nearest, project_triangles

WRAP = np.array([0.28, 0.10, 0.06], np.float32)  # red light travels farthest inside skin
NORMAL_OFFSET = 0.0015  # metres; keeps a surface from shading itself


@dataclass(frozen=True)
class DirectionalLight:
    """Light from far away. direction: (3,) towards the light, camera axes.  colour: linear RGB.  strength: factor."""

    direction: tuple[float, float, float]
    colour: tuple[float, float, float] = (1.0, 1.0, 1.0)
    strength: float = 1.0

    def unit(self) -> NDArray[np.float32]:
        """The direction at length one."""
        d = np.asarray(self.direction, np.float32)
        return d / np.linalg.norm(d)


@dataclass(frozen=True)
class Lighting:
    """All the light of a scene. lights: the first one casts shadows.  sky, ground: linear RGB from above and below."""

    lights: tuple[DirectionalLight, ...] = (
        DirectionalLight((-0.5, -0.6, -0.7), (1.0, 0.96, 0.9), 1.0),
        DirectionalLight((0.8, -0.1, -0.5), (0.75, 0.85, 1.0), 0.35),
    )
    sky: tuple[float, float, float] = (0.42, 0.45, 0.5)
    ground: tuple[float, float, float] = (0.30, 0.25, 0.22)
    up: tuple[float, float, float] = (0.0, -1.0, 0.0)  # camera axes
    shadow_size: int = 384  # side of the shadow map in texels; 0 for no shadows
    shadow_softness: float = 1.5  # texels between the 4 x 4 taps


class ShadowMap:
    """Depth seen from a directional light, looked up with percentage-closer filtering (Reeves, Salesin, Cook 1987)."""

    def __init__(self, vertices: NDArray[np.float32], faces: NDArray[np.int64], light: DirectionalLight, size: int):
        """vertices: (V, 3).  faces: (F, 3).  size: texels along each side."""
        forward = -light.unit()
        side = np.cross([0.0, 1.0, 0.1], forward)
        side /= np.linalg.norm(side)
        self.axes = np.stack([side, np.cross(forward, side), forward]).astype(np.float32)
        seen = vertices @ self.axes.T
        low, high = seen.min(0) - 0.01, seen.max(0) + 0.01
        scale = (size - 1) / float((high - low)[:2].max())
        self.camera = WeakPerspectiveCamera(scale, (float(-low[0] * scale), float(-low[1] * scale)), size, size)
        triangles = project_triangles(seen, faces, self.camera, cull=False)
        winner, value = nearest(triangles, size, size)
        farthest = float(-triangles.nearness.min()) + 1.0 if len(triangles.nearness) else 0.0
        self.depth = np.where(winner >= 0, farthest - value, np.inf).astype(np.float32)

    def visibility(
        self, points: NDArray[np.float32], normals: NDArray[np.float32], softness: float
    ) -> NDArray[np.float32]:
        """Share of 16 taps that see the light, (N,). points, normals: (N, 3).  softness: texels between taps."""
        seen = (points + np.float32(NORMAL_OFFSET) * normals) @ self.axes.T
        xy = self.camera.project(seen) + 0.5
        # taps on a slope of 45 degrees lie this much nearer than the point itself
        z = seen[:, 2] - np.float32(0.001 + (1.5 * softness + 0.5) / self.camera.scale)
        size = self.camera.width
        share = np.zeros(len(points), np.float32)
        taps = np.float32(softness) * np.array([-1.5, -0.5, 0.5, 1.5], np.float32)
        columns = [np.clip((xy[:, 0] + t).astype(np.int32), 0, size - 1) for t in taps]
        flat = self.depth.reshape(-1)
        for t in taps:
            row = np.clip((xy[:, 1] + t).astype(np.int32), 0, size - 1) * size
            for column in columns:
                share += z < flat[row + column]
        return share / np.float32(16)


def shade(
    albedo: NDArray[np.float32],
    points: NDArray[np.float32],
    normals: NDArray[np.float32],
    specular: NDArray[np.float32],
    scatter: NDArray[np.float32],
    lighting: Lighting,
    shadow: NDArray[np.float32] | None,
    rays: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Reflected linear light, (N, 3).

    albedo: (N, 3).  points, normals: (N, 3), unit normals.  specular, scatter: (N,).  shadow: (N,) share of the first light that
    arrives.  rays: (N, 3) directions from the camera.  Diffuse light wraps per channel, (n.l + w) / (1 + w); highlights are two
    Blinn-Phong lobes with Schlick's Fresnel factor.
    """
    view = -rays / np.linalg.norm(rays, axis=1, keepdims=True)
    towards_sky = (normals @ np.asarray(lighting.up, np.float32))[:, None] * 0.5 + 0.5
    sky, ground = np.asarray(lighting.sky, np.float32), np.asarray(lighting.ground, np.float32)
    out = albedo * (ground + (sky - ground) * towards_sky)
    wrap = WRAP * scatter[:, None]
    for k, light in enumerate(lighting.lights):
        direction = light.unit()
        colour = np.float32(light.strength) * np.asarray(light.colour, np.float32)
        facing = normals @ direction
        diffuse = np.clip((facing[:, None] + wrap) / (1 + wrap), 0, 1)
        half = view + direction
        half /= np.linalg.norm(half, axis=1, keepdims=True)
        sharp = np.clip((normals * half).sum(1), 0, 1)
        fresnel = 1 + 24 * (1 - np.clip((view * half).sum(1), 0, 1)) ** 5  # relative to head-on, F0 = 0.04
        squared = sharp * sharp
        fourth = squared * squared
        eighth = fourth * fourth
        lobe28 = eighth * eighth * eighth * fourth
        lobe92 = lobe28 * lobe28 * lobe28 * eighth
        highlight = specular * (0.12 * lobe28 + 0.16 * lobe92) * fresnel * np.clip(facing, 0, 1)
        if k == 0 and shadow is not None:
            bleed = np.stack([np.power(shadow, 0.7), shadow, np.power(shadow, 1.1)], 1)  # red fills the shadow's edge
            diffuse *= bleed
            highlight = highlight * shadow
        out += colour * (albedo * diffuse + highlight[:, None])
    rim = (1 - np.clip((normals * view).sum(1), 0, 1)) ** 4
    out += (0.06 * rim * specular)[:, None] * sky
    return out
