"""The meshes over the photo they were predicted from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handface.model.outputs.banner import with_banner, write_words
from handface.model.outputs.colours import HAND, HEAD
from handface.model.outputs.draw import draw_over, ramp_mesh
from handface.model.prediction.prediction import Floats, Person, PinholeCamera, Prediction
from handface.model.render import Camera, PerspectiveCamera, WeakPerspectiveCamera

Image = NDArray[np.uint8]
_FACE_DOT, _HAND_DOT = (90, 220, 130), (255, 176, 0)


@dataclass(frozen=True)
class OverlayConfig:
    """How the overlay looks."""

    opacity: float = 0.8
    """Of the meshes, 0 to 1."""
    max_side: int = 1280
    """Pixels; larger photos are drawn smaller, photos are never enlarged."""
    keypoints: bool = False
    """Also the detector's points."""
    banner: bool = True
    """The strip over pictures of an untrained network; off only where the caller shows it otherwise."""

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1 or self.max_side < 16:
            raise ValueError(f"opacity {self.opacity} must be in [0, 1] and max_side {self.max_side} at least 16")


def draw_overlay(image: Image, prediction: Prediction, config: OverlayConfig = OverlayConfig()) -> Image:
    """(H, W, 3) RGB uint8 photo -> hand and head in two colours over it, contact in a third, by each person's camera.

    Farther people first (they are smaller). A mesh that cannot be drawn is said in words.
    Raises ValueError if the photo is not the prediction's.
    """
    import cv2

    height, width = image.shape[:2]
    if (width, height) != (prediction.width, prediction.height):
        raise ValueError(
            f"the photo is {width}x{height}, the prediction of {prediction.width}x{prediction.height} pixels"
        )
    zoom = min(1.0, config.max_side / max(height, width))
    if zoom < 1:
        size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    canvas, failed = image, 0
    for person in sorted(prediction.persons, key=lambda one: one.camera.scale):
        drawn = _draw_person(canvas, person, zoom, config)
        canvas, failed = (canvas, failed + 1) if drawn is None else (drawn, failed)
    if failed:
        text = f"{failed} of {len(prediction.persons)} meshes cannot be drawn"
        place = (canvas.shape[1] / 2, canvas.shape[0] - 14)
        canvas = write_words(canvas, [(place, text, max(10.0, canvas.shape[1] / 40))], (255, 80, 80))
    return canvas.copy() if prediction.trained or not config.banner else with_banner(canvas)


def zoomed_camera(person: Person, zoom: float, width: int, height: int) -> tuple[Camera, Floats]:
    """The person's camera for the photo at `zoom` times its size, and what is added to the points it sees, (3,) metres.

    Pixel centres stay at integers.
    """
    shift = (zoom - 1) / 2
    camera = person.camera
    if isinstance(camera, PinholeCamera):
        focal, cx, cy = camera.focal * zoom, camera.cx * zoom + shift, camera.cy * zoom + shift
        intrinsics = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
        return PerspectiveCamera(intrinsics, width, height), np.array(camera.transl, np.float32)
    offset = (camera.tx * zoom + shift, camera.ty * zoom + shift)
    return WeakPerspectiveCamera(camera.scale * zoom, offset, width, height), np.zeros(3, np.float32)


def _draw_person(canvas: Image, person: Person, zoom: float, config: OverlayConfig) -> Image | None:
    camera, offset = zoomed_camera(person, zoom, canvas.shape[1], canvas.shape[0])
    meshes = [
        ramp_mesh(part.vertices + offset, part.faces, part.contact, ramp)
        for part, ramp in ((person.head, HEAD), (person.hand, HAND))
    ]
    drawn = draw_over(canvas, meshes, camera, config.opacity)
    if drawn is not None and config.keypoints and person.detection is not None:
        _dots(drawn, person, zoom)
    return drawn


def _dots(canvas: Image, person: Person, zoom: float) -> None:
    import cv2

    assert person.detection is not None
    for points, colour in ((person.detection.face, _FACE_DOT), (person.detection.hand, _HAND_DOT)):
        seen = np.isfinite(points).all(1) & (points[:, 2] > 0)
        # pixel centres stay at integers, as those of the meshes do
        for x, y in points[seen, :2] * zoom + (zoom - 1) / 2:
            cv2.circle(canvas, (round(float(x)), round(float(y))), 2, colour, -1, cv2.LINE_AA)
