"""A prediction that is right: the bodies of a synthetic scene, seen by the weak-perspective camera that fits its own best."""

from __future__ import annotations

from functools import cache

import numpy as np

from handface.model.prediction.prediction import Detection, Part, Person, Prediction, WeakCamera
from handface.pipeline.synthesis.make import RenderedScene, SynthesisConfig, render_scene
from handface.pipeline.synthesis.person.bodies import free_hand, free_head
from handface.pipeline.synthesis.scene.scene import SceneConfig

SEED = 7
TOUCHING = SceneConfig(near_share=0.0, front_share=0.0)


@cache
def scene(number: int, size: int = 256) -> RenderedScene:
    return render_scene(number, SynthesisConfig(seed=SEED, size=size, scenes=TOUCHING))


def picture(number: int, size: int = 256) -> np.ndarray:
    """RGB (S, S, 3) uint8."""
    return scene(number, size).image


@cache
def prediction(number: int, size: int = 256, trained: bool = True) -> Prediction:
    made = scene(number, size)
    truth, view = made.scene, made.view
    head = view.to_camera(truth.head + truth.displacement)
    hand = view.to_camera(truth.mirrored(truth.hand.vertices))
    origin = head.mean(0)
    camera = _fit(np.concatenate([head, hand]) - origin, view.camera.project(np.concatenate([head, hand])))
    turned = free_hand().faces[:, [0, 2, 1]] if truth.left else free_hand().faces
    parts = {}
    for name, vertices, faces, contact, moved in (
        ("hand", hand, turned, truth.touch.hand_contact, np.zeros_like(hand)),
        ("head", head, free_head().faces, truth.touch.head_contact, -truth.displacement @ view.rotation.T),
    ):
        parameters = {"betas": np.arange(4, dtype=np.float32), "transl": np.ones(3, np.float32)}
        values = ((vertices - origin).astype(np.float32), faces, (vertices[:21] - origin).astype(np.float32))
        soft = np.where(contact, 0.95, 0.02).astype(np.float32)
        parts[name] = Part(*values, soft, moved.astype(np.float32), parameters, f"free-{name}", "free")
    face, fingers = (np.random.default_rng(0).uniform(0, size, (count, 3)).astype(np.float32) for count in (68, 21))
    side = "left" if truth.left else "right"
    found = Detection(face, fingers, side, 0.9, (1.0, 2.0, 3.0, 4.0))
    person = Person(parts["hand"], parts["head"], side, camera, 0.97, 0.9, np.eye(3), found, track=4)
    return Prediction((person,), size, size, trained)


def _fit(points: np.ndarray, pixels: np.ndarray) -> WeakCamera:
    """Least squares of u = s X + tx, v = s Y + ty."""
    centre, middle = points[:, :2].mean(0), pixels.mean(0)
    scale = float(((points[:, :2] - centre) * (pixels - middle)).sum() / ((points[:, :2] - centre) ** 2).sum())
    return WeakCamera(scale, *(middle - scale * centre).tolist())
