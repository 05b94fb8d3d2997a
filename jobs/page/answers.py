"""From an uploaded file to what the page shows of it, all in memory: pictures, meshes and numbers of each person."""

from __future__ import annotations

import io
import json
import secrets
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handface.model.prediction.prediction import Person, Prediction

Predict = Callable[["NDArray[np.uint8]"], "Prediction"]
EXAMPLES = ("examples/temple.jpg", "examples/cheek.jpg")  # drawn: scenes of `handface synthesize`
VIDEO_ADVICE = "This is a video. In a terminal: handface predict FILE --output out/predictions; or send a picture of one of its frames."
MOST_PERSONS = 6  # shown of one photo; each costs a second of drawing and a megabyte
_FOR_THE_PAGE = (".bin", ".jpg")  # its own mesh format and copies of pictures
_VIDEO_BRANDS = (b"iso", b"mp4", b"avc", b"m4v", b"qt", b"3g", b"dash", b"msnv")  # HEIC and AVIF have others
_SMALL = 144  # pixels of the pictures in the row of photos


class BadPhotoError(ValueError):
    """The upload is no usable photo; the message is for the person who chose it."""


@dataclass(frozen=True)
class PageAnswer:
    """What the page gets. summary: JSON values.  files: name -> (media type, bytes).  later: the same, made when asked for."""

    summary: dict[str, Any]
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    later: dict[str, tuple[str, Callable[[], bytes]]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the files that are held."""
        return sum(len(data) for _, data in self.files.values())

    def file(self, name: str) -> tuple[str, bytes] | None:
        """(media type, bytes), or None if there is no such file."""
        if name == "all.zip":
            return "application/zip", self._everything()
        if name in self.later:
            media, make = self.later[name]
            return media, make()
        return self.files.get(name)

    def _everything(self) -> bytes:
        """All that can be saved, as one file."""
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in (*self.files, *self.later):
                if (found := self.file(name)) is not None and not name.endswith(_FOR_THE_PAGE):
                    archive.writestr(name, found[1])
        return stream.getvalue()


def answer(data: bytes, predict: Predict, max_pixels: int) -> PageAnswer:
    """Decode, predict, draw. Raises BadPhotoError, and what the predictor raises."""
    from handface.model.outputs import OverlayConfig, draw_overlay, encode_mesh, with_banner
    from handface.model.outputs.mesh_files import MESH_FORMATS
    from handface.model.outputs.records import to_json
    from handface.model.outputs.trust import count_words

    prediction = predict(image := decode(data, max_pixels))
    overlay = draw_overlay(image, prediction, OverlayConfig(banner=False))
    height, width = overlay.shape[:2]
    record = json.dumps(to_json("upload", prediction), indent=1, allow_nan=False).encode()
    files = {
        "prediction.json": ("application/json", record),
        "drawn.jpg": ("image/jpeg", _jpeg(overlay, width, height)),
        "photo.jpg": ("image/jpeg", _jpeg(image, width, height)),
        "small.jpg": (
            "image/jpeg",
            _jpeg(overlay, *(max(1, _SMALL * side // min(height, width)) for side in (width, height))),
        ),
    }
    later: dict[str, tuple[str, Callable[[], bytes]]] = {
        "prediction.npz": ("application/octet-stream", partial(_arrays, prediction)),
        "overlay.png": ("image/png", lambda: _png(overlay if prediction.trained else with_banner(overlay))),
    }
    shown, faces = prediction.persons[:MOST_PERSONS], prediction.faces
    for index, person in enumerate(shown):
        files |= _person_files(index, person, prediction.trained)
        for kind in MESH_FORMATS:
            media = "model/gltf-binary" if kind == "glb" else "application/octet-stream"
            later[f"mesh_{index}.{kind}"] = media, partial(encode_mesh, person, kind, prediction.trained)
    more = f", the first {MOST_PERSONS} hands are shown" if len(faces) > MOST_PERSONS else ""
    summary = {
        **{name: getattr(prediction, name) for name in ("width", "height", "trained", "reason")},
        "found": count_words(len(set(faces)), len(faces)) + more,
        "persons": [
            _facts(person, prediction.trained) | {"face": face} for person, face in zip(shown, faces, strict=False)
        ],
    }
    return PageAnswer(summary, files, later)


def decode(data: bytes, max_pixels: int) -> NDArray[np.uint8]:
    """An uploaded file -> (H, W, 3) uint8 RGB; its type is told by content. Raises BadPhotoError saying what is wrong."""
    from handface.pipeline.contract.images.picture import DecodeConfig, RejectedImage, decode_image
    from handface.predict.inputs import MIN_SIDE

    if not data:
        raise BadPhotoError("The file is empty.")
    try:
        image = decode_image(data, DecodeConfig(max_pixels=max_pixels, min_side=MIN_SIDE))
    except RejectedImage as refused:
        if _is_video(data):
            raise BadPhotoError(VIDEO_ADVICE) from refused
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
        return None if found is None else found.file(file)


def _person_files(index: int, person: Person, trained: bool) -> dict[str, tuple[str, bytes]]:
    from handface.model.outputs import draw_contact_map

    return {
        f"contact_{index}.png": ("image/png", _png(draw_contact_map(person, trained))),
        f"mesh_{index}.bin": ("application/octet-stream", encode_viewer_mesh(person)),
    }


def _facts(person: Person, trained: bool) -> dict[str, Any]:
    from handface.model.outputs.trust import trust
    from handface.model.prediction.prediction import CONTACT_PROBABILITY

    def known(value: float | None) -> float | None:
        return float(value) if value is not None and np.isfinite(value) else None

    level, words = trust(person, trained)
    return {
        "level": level,
        "words": words,
        "quality": known(person.quality),
        "side": person.side,
        "presence": known(person.presence),
        "confidence": known(person.confidence),
        "hand_contacts": int((person.hand.contact > CONTACT_PROBABILITY).sum()),
        "head_contacts": int((person.head.contact > CONTACT_PROBABILITY).sum()),
        "deformation_mm": known(1000 * np.linalg.norm(person.head.deformation, axis=1).max(initial=0.0)),
    }


def _is_video(data: bytes) -> bool:
    """MP4 and QuickTime, Matroska and WebM, AVI."""
    named = data[4:8] == b"ftyp" and data[8:12].lower().startswith(_VIDEO_BRANDS)
    return named or data[:4] == b"\x1aE\xdf\xa3" or (data[:4] == b"RIFF" and data[8:11] == b"AVI")


def _arrays(prediction: Prediction) -> bytes:
    """The .npz of `handface predict`."""
    from handface.model.outputs.records import record_arrays

    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **record_arrays(prediction))
    return stream.getvalue()


def _jpeg(image: NDArray[np.uint8], width: int, height: int) -> bytes:
    """A copy of this size for the page."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).resize((width, height)).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=3)
    return stream.getvalue()
