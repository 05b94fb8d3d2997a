"""From an uploaded file to what the page shows of it, all in memory: pictures, meshes and numbers of each person."""

from __future__ import annotations

import io
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handface.model.prediction.prediction import Person, Prediction

Predict = Callable[["NDArray[np.uint8]"], "Prediction"]
MOST_PERSONS = 6  # shown of one photo; each costs a second of drawing and a megabyte
_CONTACT = 0.5


class BadPhotoError(ValueError):
    """The upload is no usable photo; the message is for the person who chose it."""


@dataclass(frozen=True)
class PageAnswer:
    """What the page gets. summary: JSON values.  files: name -> (media type, bytes)."""

    summary: dict[str, Any]
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(len(data) for _, data in self.files.values())


def answer(data: bytes, predict: Predict, max_pixels: int) -> PageAnswer:
    """Decode, predict, draw. Raises BadPhotoError, and what the predictor raises."""
    from handface.model.outputs import OverlayConfig, draw_overlay
    from handface.model.outputs.records import to_json

    prediction = predict(image := decode(data, max_pixels))
    overlay = draw_overlay(image, prediction, OverlayConfig())
    record = json.dumps(to_json("upload", prediction), indent=1, allow_nan=False).encode()
    files = {"overlay.png": ("image/png", _png(overlay)), "prediction.json": ("application/json", record)}
    shown = prediction.persons[:MOST_PERSONS]
    for index, person in enumerate(shown):
        files |= _person_files(index, person, prediction.trained)
    summary = {
        **{name: getattr(prediction, name) for name in ("width", "height", "trained", "reason")},
        "found": len(prediction.persons),
        "persons": [_facts(person) for person in shown],
    }
    return PageAnswer(summary, files)


def decode(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """An uploaded file -> (H, W, 3) uint8 RGB; its type is told by content. Raises BadPhotoError saying what is wrong."""
    from handface.pipeline.contract.images.picture import DecodeConfig, RejectedImage, decode_image
    from handface.predict.inputs import MIN_SIDE

    if not data:
        raise BadPhotoError("The file is empty.")
    try:
        image = decode_image(data, DecodeConfig(max_pixels=max_pixels, min_side=MIN_SIDE))
    except RejectedImage as refused:
        reason = refused.reason.value.replace("_", " ")
        raise BadPhotoError(f"This file cannot be used: {reason} ({refused.detail}).") from refused
    if min(image.shape[:2]) < MIN_SIDE:
        height, width = image.shape[:2]
        raise BadPhotoError(f"This photo is too small: {width}x{height} pixels, at least {MIN_SIDE} are needed.")
    return image


def encode_viewer_mesh(person: Person) -> bytes:
    """Both meshes for the page's own viewer, little-endian, hand first; axes as in mesh files.

    uint32 (3,): vertices V, hand triangles, head triangles.  float32 (V, 3) positions, (V, 3) normals.  uint8 (V, 4) colours by
    contact, (V, 4) by deformation.  uint32 (F, 3) triangles.
    """
    from handface.model.outputs.colours import DEFORMATION, HAND, HEAD
    from handface.model.outputs.mesh_files import upright
    from handface.model.render import vertex_normals

    parts = (person.hand, person.head)
    moved = [np.linalg.norm(part.deformation, axis=1) for part in parts]
    most = max(0.005, float(np.nan_to_num(moved[1].max(initial=0.0), posinf=0.0)))
    contact = [ramp.colours(part.contact) for ramp, part in zip((HAND, HEAD), parts, strict=True)]
    pressed = [DEFORMATION.colours(length / most) for length in moved]
    blocks = [
        np.array([sum(len(part.vertices) for part in parts), *(len(part.faces) for part in parts)], "<u4"),
        np.concatenate([upright(part.vertices) for part in parts]).astype("<f4"),
        np.concatenate([upright(vertex_normals(part.vertices, part.faces)) for part in parts]).astype("<f4"),
        *(np.pad(np.concatenate(colours), ((0, 0), (0, 1)), constant_values=255) for colours in (contact, pressed)),
        np.concatenate([person.hand.faces, person.head.faces + len(person.hand.vertices)]).astype("<u4"),
    ]
    return b"".join(block.tobytes() for block in blocks)


class Store:
    """The latest answers by unguessable name; the oldest leave when there are too many or too large ones. Nothing is on disk."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self._answers: OrderedDict[str, PageAnswer] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, one: PageAnswer) -> str:
        """Keep an answer and return its name."""
        name = secrets.token_urlsafe(12)
        self._answers[name] = one
        while len(self) > 1 and (
            len(self) > self.count or sum(kept.size for kept in self._answers.values()) > self.size
        ):
            self._answers.popitem(last=False)
        return name

    def file(self, name: str, file: str) -> tuple[str, bytes] | None:
        """(media type, bytes), or None if it is not, or no longer, there."""
        found = self._answers.get(name)
        return None if found is None else found.files.get(file)


def _person_files(index: int, person: Person, trained: bool) -> dict[str, tuple[str, bytes]]:
    from handface.model.outputs import draw_contact_map, encode_mesh

    return {
        f"contact_{index}.png": ("image/png", _png(draw_contact_map(person, trained))),
        f"mesh_{index}.bin": ("application/octet-stream", encode_viewer_mesh(person)),
        f"mesh_{index}.glb": ("model/gltf-binary", encode_mesh(person, "glb", trained)),
    }


def _facts(person: Person) -> dict[str, Any]:
    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        "side": person.side,
        "presence": known(person.presence),
        "confidence": known(person.confidence),
        "hand_contacts": int((person.hand.contact > _CONTACT).sum()),
        "head_contacts": int((person.head.contact > _CONTACT).sum()),
        "deformation_mm": known(1000 * np.linalg.norm(person.head.deformation, axis=1).max(initial=0.0)),
    }


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=3)
    return stream.getvalue()
