"""What `predict` writes for a photo: everything as numbers (JSON and npz), and the meshes over the photo."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.prediction import Part, Person, Prediction

BANNER = "UNTRAINED NETWORK: MESHES MEAN NOTHING"
_DRAW_SIDE = 1024  # pixels; larger photos are drawn smaller
_SKIN, _HEAD, _CONTACT = (0.75, 0.5, 0.4), (0.6, 0.65, 0.7), (0.9, 0.05, 0.3)  # linear light
_OPACITY = 0.75


def write_numbers(folder: Path, stem: str, name: str, prediction: Prediction) -> None:
    """STEM.json (everything but meshes) and STEM.npz (arrays `personN/hand/vertices` ...; no pickle)."""
    record = {"photo": name, **{key: getattr(prediction, key) for key in ("width", "height", "trained", "reason")}}
    record["persons"] = [_numbers(person) for person in prediction.persons]
    (folder / f"{stem}.json").write_text(json.dumps(record, indent=1) + "\n")
    arrays: dict[str, NDArray[Any]] = {"trained": np.array(prediction.trained)}
    for index, person in enumerate(prediction.persons):
        arrays |= {f"person{index}/crop": person.crop, f"person{index}/camera": _camera(person)}
        for kind, part in (("hand", person.hand), ("head", person.head)):
            arrays |= {f"person{index}/{kind}/{key}": value for key, value in _arrays(part).items()}
    np.savez_compressed(folder / f"{stem}.npz", allow_pickle=False, **arrays)


def draw_overlay(image: NDArray[np.uint8], prediction: Prediction) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB with its meshes, contact in red, crops outlined; a banner where the network is untrained."""
    import cv2

    from model.render import Material, Mesh, Texture, WeakPerspectiveCamera, render

    height, width = image.shape[:2]
    zoom = min(1.0, _DRAW_SIDE / max(height, width))
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    canvas = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    for person in prediction.persons:
        camera = WeakPerspectiveCamera(
            person.camera.scale * zoom, (person.camera.tx * zoom, person.camera.ty * zoom), *size
        )
        meshes = []
        for part, colour in ((person.hand, _SKIN), (person.head, _HEAD)):
            touching = (part.contact[part.faces] > 0.5).all(1)
            for faces, tint in ((part.faces[~touching], colour), (part.faces[touching], _CONTACT)):
                if len(faces):
                    meshes.append(Mesh(part.vertices, faces, Material(Texture.plain(tint))))
        picture = render(meshes, camera, supersample=1)
        opacity = _OPACITY * picture.coverage[..., None]
        drawn = 255 * np.clip(picture.colour, 0, 1) ** (1 / 2.2)
        canvas = np.rint(canvas * (1 - opacity) + drawn * opacity).astype(np.uint8)
        _outline(canvas, person, zoom)
    return canvas if prediction.trained else with_banner(canvas)


def with_banner(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture under a red strip that says the network is untrained."""
    import cv2

    strip = max(20, image.shape[1] // 24)
    banner = np.zeros((strip, image.shape[1], 3), np.uint8) + np.array([190, 0, 0], np.uint8)
    scale = 0.9 * image.shape[1] / cv2.getTextSize(BANNER, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 2)[0][0]
    origin = (image.shape[1] // 20, round(strip * 0.7))
    cv2.putText(banner, BANNER, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate([banner, image])


def _outline(canvas: NDArray[np.uint8], person: Person, zoom: float) -> None:
    import cv2

    if person.detection is None:
        return
    for points, colour in ((person.detection.face, (0, 220, 0)), (person.detection.hand, (255, 60, 60))):
        for x, y in points[:, :2] * zoom:
            cv2.circle(canvas, (round(float(x)), round(float(y))), 2, colour, -1, cv2.LINE_AA)


def _numbers(person: Person) -> dict[str, Any]:
    detection = person.detection
    parts = (("hand", person.hand), ("head", person.head))
    return {
        "side": person.side,
        "presence": person.presence,
        "confidence": person.confidence,
        "camera": asdict(person.camera),
        "crop": person.crop.tolist(),
        "face_keypoints_2d": None if detection is None else detection.face.tolist(),
        "hand_keypoints_2d": None if detection is None else detection.hand.tolist(),
        **{kind: _part_numbers(part) for kind, part in parts},
    }


def _part_numbers(part: Part) -> dict[str, Any]:
    return {
        "body": part.body,
        "convention": part.convention,
        "contact_vertices": np.flatnonzero(part.contact > 0.5).tolist(),
        "keypoints_3d": part.keypoints_3d.tolist(),
        "parameters": {name: value.tolist() for name, value in part.parameters.items()},
    }


def _arrays(part: Part) -> dict[str, NDArray[Any]]:
    names = ("vertices", "faces", "keypoints_3d", "contact", "deformation")
    return {name: getattr(part, name) for name in names} | dict(part.parameters)


def _camera(person: Person) -> NDArray[np.float64]:
    return np.array([person.camera.scale, person.camera.tx, person.camera.ty])
