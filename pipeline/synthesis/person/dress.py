"""Turns a scene's geometry into meshes with materials, in camera axes: skin, eyes, mouth, neck, clothes, forearm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.model.render import Material, Mesh, Texture, vertex_normals
from handface.pipeline.synthesis.person.bodies import free_hand, free_head
from handface.pipeline.synthesis.person.eyes import eyeballs, paint_eye
from handface.pipeline.synthesis.person.loft import CLOTHES, Loft, bust, forearm
from handface.pipeline.synthesis.person.noise import fractal_noise
from handface.pipeline.synthesis.person.skin import (
    Complexion,
    draw_complexion,
    hand_atlas,
    head_maps,
    paint_hand,
    paint_head,
    paint_limb,
)
from handface.pipeline.synthesis.scene.attempt import SecondHand
from handface.pipeline.synthesis.scene.domain import Domain
from handface.pipeline.synthesis.scene.scene import Scene
from handface.pipeline.synthesis.scene.view import SceneView
from handface.pipeline.synthesis.touch.pose import arm_direction

Array = NDArray[np.float64]
SECOND = "second_"  # before the names of the second hand's meshes


@dataclass(frozen=True)
class DressedScene:
    """Meshes to draw and their names, and whose skin they wear."""

    meshes: tuple[Mesh, ...]
    names: tuple[str, ...]
    complexion: Complexion


def dress(
    rng: np.random.Generator, scene: Scene, view: SceneView, domain: Domain, texture_size: int, arm_length: float = 0.26
) -> DressedScene:
    """All meshes of a scene. texture_size: height of the head's texture in texels; the others follow.  arm_length: metres of
    forearm, to beyond the picture.
    """
    complexion = draw_complexion(rng, domain.tones)
    meshes = _head(rng, scene, view, complexion, texture_size)
    meshes |= _hand(rng, scene, view, complexion, texture_size, arm_length)
    meshes |= _trunk(rng, scene, view, complexion)
    if scene.second is not None:
        second = _hand(rng, scene.second, view, complexion, texture_size, arm_length)
        meshes |= {SECOND + name: mesh for name, mesh in second.items()}
    return DressedScene(tuple(meshes.values()), tuple(meshes), complexion)


def _head(
    rng: np.random.Generator, scene: Scene, view: SceneView, complexion: Complexion, texture_size: int
) -> dict[str, Mesh]:
    body = free_head()
    deformed = (scene.head + scene.displacement).astype(np.float32)
    normals = (vertex_normals(deformed, body.faces) @ view.rotation.T).astype(np.float32)
    seen = view.to_camera(deformed.astype(np.float64)).astype(np.float32)
    height, width = texture_size, texture_size // 2
    atlas = head_maps(height, width).atlas
    skin = Material(paint_head(complexion, rng, height, width), specular=float(rng.uniform(0.12, 0.4)))
    inside = Material(Texture.plain((0.16, 0.035, 0.03)), specular=0.3)
    neck = Material(Texture.plain(tuple(complexion.base)), specular=skin.specular)
    eye = Material(paint_eye(rng), specular=1.2, scatter=0.0)
    meshes = {
        "skin": Mesh(seen, atlas.faces, skin, atlas.uv, atlas.face_uv, normals),
        "inside": Mesh(seen, body.faces[body.inner_faces], inside, normals=normals),
        "neck": Mesh(seen, body.faces[body.plain_faces], neck, normals=normals),
    }
    for name, ball in zip(("left_eye", "right_eye"), eyeballs(), strict=True):
        meshes[name] = Mesh(seen, ball.faces, eye, ball.uv, normals=normals)
    return meshes


def _hand(
    rng: np.random.Generator,
    scene: Scene | SecondHand,
    view: SceneView,
    complexion: Complexion,
    texture_size: int,
    arm_length: float,
) -> dict[str, Mesh]:
    body = free_hand()
    size = texture_size // 2
    atlas, _, _ = hand_atlas(size, size)
    material = Material(paint_hand(complexion, rng, size, size), specular=float(rng.uniform(0.1, 0.3)))
    ring = scene.hand.vertices[body.arrays.rings["wrist"]]
    behind = scene.hand.rotation @ np.array([1.0, 0.0, 0.0])
    arm = forearm(ring, behind, arm_direction(scene.hand.rotation), arm_length, float(rng.uniform(1.35, 1.7)))
    skin = Material(paint_limb(complexion, rng), specular=material.specular)
    meshes = {"hand": _in_camera(scene, view, scene.hand.vertices, atlas.faces, material, atlas.uv, atlas.face_uv)}
    sleeve = int(rng.integers(4, 8)) if rng.random() < 0.5 else len(arm.vertices)
    for name, part, look in (
        ("forearm", arm.ring_of_face < sleeve, skin),
        ("sleeve", arm.ring_of_face >= sleeve, _cloth(rng)),
    ):
        if part.any():
            meshes[name] = _in_camera(scene, view, arm.vertices, arm.faces[part], look, arm.uv, arm.face_uv[part])
    return meshes


def _in_camera(
    scene: Scene | SecondHand,
    view: SceneView,
    vertices: NDArray[Any],
    faces: NDArray,
    material: Material,
    uv: NDArray,
    face_uv: NDArray,
) -> Mesh:
    """A mesh of the right-handed solution as it is in the scene; a left hand's triangles are turned over."""
    seen = view.to_camera(scene.mirrored(np.asarray(vertices, np.float64))).astype(np.float32)
    if scene.left:
        faces, face_uv = faces[:, ::-1], face_uv[:, ::-1]
    return Mesh(seen, faces, material, uv, face_uv)


def _trunk(rng: np.random.Generator, scene: Scene, view: SceneView, complexion: Complexion) -> dict[str, Mesh]:
    ring = scene.head[free_head().arrays.rings["neck"]]
    body: Loft = bust(
        ring, float(rng.uniform(0.36, 0.46)), float(rng.uniform(0.17, 0.22)), float(rng.uniform(0.03, 0.05))
    )
    seen = view.to_camera(body.vertices.astype(np.float64)).astype(np.float32)
    covered = body.ring_of_face >= CLOTHES
    skin = Material(paint_limb(complexion, rng), specular=0.2)
    return {
        "throat": Mesh(seen, body.faces[~covered], skin, body.uv, body.face_uv[~covered]),
        "clothes": Mesh(seen, body.faces[covered], _cloth(rng), body.uv, body.face_uv[covered]),
    }


def _cloth(rng: np.random.Generator, size: int = 128) -> Material:
    """Plain, mottled or striped cloth."""
    colour = rng.uniform(0.02, 0.6) * np.clip(1 + rng.normal(0, 0.35, 3), 0.1, 2)
    pattern: NDArray[Any] = fractal_noise(rng, size, size, ((1.0, 0.08), (6.0, 0.06)))
    if rng.random() < 0.3:
        stripes = np.sin(np.arange(size) * 2 * np.pi * rng.integers(4, 16) / size)[:, None]
        pattern = pattern + np.float32(rng.uniform(0.1, 0.5)) * np.sign(stripes)
    image = np.clip(np.exp(pattern)[..., None] * colour, 0.003, 0.95)
    return Material(Texture(image.astype(np.float32)), specular=0.03, scatter=0.2)
