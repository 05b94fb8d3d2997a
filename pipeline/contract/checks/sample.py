"""What one sample must satisfy beyond being readable: image, provenance, tensors and their ranges agree with each other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.sample import (
    MAX_CROP,
    READABLE_VERSIONS,
    TENSOR_FIELDS,
    Crop,
    Labels,
    SampleError,
    SampleMeta,
    Scores,
    decode_labels,
    decode_meta,
    is_hex,
    sample_key,
)

EXTENSIONS = ("jpg", "json", "safetensors", "depth.png", "mask.png")
_FAR = 100.0  # metres; anything beyond is millimetres or a broken fit
_MOST_TURN = 4 * np.pi  # radians; anything beyond is degrees
_NEEDS_MODEL = {
    "hand_model": ("hand_betas", "hand_pose", "hand_contact"),
    "head_model": (
        "head_betas",
        "head_expression",
        "head_pose",
        "head_contact",
        "head_deformation_rows",
        "head_deformation",
    ),
}


class Problem(NamedTuple):
    """One thing wrong with one member: `code` for counting, `message` for people."""

    code: str
    member: str
    message: str


def check_sample(key: str, members: Mapping[str, bytes]) -> Iterator[Problem]:
    """All problems of the sample `key` whose members are {extension: bytes}; nothing if it keeps the contract."""
    for extension in ("jpg", "json", "safetensors"):
        if extension not in members:
            yield Problem("missing_member", extension, f"member .{extension} is missing")
    side: int | None = None  # of the crop, pixels
    if "jpg" in members:
        if (expected := sample_key(members["jpg"])) != key:
            yield Problem("bad_key", "jpg", f"the key must be the first hex of the image's sha256: {expected}")
        side, wrong = _image_side(members["jpg"])
        if wrong is not None:
            yield Problem("bad_image", "jpg", wrong)
    if "json" in members:
        try:
            meta = decode_meta(members["json"])
        except SampleError as error:
            yield Problem("bad_json", "json", str(error))
        else:
            for code, message in _check_meta(key, side, meta, members["json"]):
                yield Problem(code, "json", message)
    if "safetensors" in members:
        try:
            labels = decode_labels(members["safetensors"])
        except SampleError as error:
            yield Problem("bad_tensor", "safetensors", str(error))
        else:
            for message in _check_labels(labels, side or MAX_CROP):
                yield Problem("out_of_range", "safetensors", message)
    if "depth.png" in members and (wrong := _depth_problem(members["depth.png"], side)) is not None:
        yield Problem("bad_depth", "depth.png", wrong)
    if "mask.png" in members and (wrong := _mask_problem(members["mask.png"], side)) is not None:
        yield Problem("bad_mask", "mask.png", wrong)


def _image_side(blob: bytes) -> tuple[int | None, str | None]:
    """Side of the square crop in pixels (None if unknown), and what is wrong with it."""
    from PIL import Image

    try:
        with Image.open(BytesIO(blob), formats=("JPEG",)) as image:
            width, height = image.size
            if width != height or width > MAX_CROP:
                return None, f"{width}x{height}, expected a square of at most {MAX_CROP} px"
            if image.mode != "RGB":
                return width, f"colour mode {image.mode}, expected RGB"
            if "exif" in image.info:
                return width, "carries EXIF, which may hold a place or a name: strip it"
            image.load()
    except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError on some broken headers
        return None, f"does not decode as a JPEG ({error})"
    return width, None


def _depth_problem(blob: bytes, side: int | None) -> str | None:
    from PIL import Image

    try:
        with Image.open(BytesIO(blob), formats=("PNG",)) as image:
            if side is not None and image.size != (side, side):
                return f"{image.size[0]}x{image.size[1]}, but the crop is {side}x{side}"
            if image.mode != "I;16":
                return f"mode {image.mode}, expected 16-bit grey"
            image.load()
            texts = [getattr(image, "text", {}).get(name, "nothing") for name in ("offset", "scale")]
            if not all(re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", text) for text in texts):
                return f"text chunks offset and scale must be numbers, found {texts}"
    except (OSError, SyntaxError, ValueError) as error:
        return f"does not decode as a PNG ({error})"
    return None


def _mask_problem(blob: bytes, side: int | None) -> str | None:
    from PIL import Image

    try:
        with Image.open(BytesIO(blob), formats=("PNG",)) as image:
            if side is not None and image.size != (side, side):
                return f"{image.size[0]}x{image.size[1]}, but the crop is {side}x{side}"
            if image.mode != "L":
                return f"mode {image.mode}, expected 8-bit grey"
            if not np.isin(np.asarray(image), (0, 255)).all():
                return "has values other than 0 and 255"
    except (OSError, SyntaxError, ValueError) as error:
        return f"does not decode as a PNG ({error})"
    return None


def _check_meta(key: str, side: int | None, meta: SampleMeta, blob: bytes) -> Iterator[tuple[str, str]]:
    if meta.schema_version not in READABLE_VERSIONS:
        yield "bad_json", f"schema_version {meta.schema_version!r}; this validator knows {', '.join(READABLE_VERSIONS)}"
    for name in _unknown_fields(json.loads(blob), asdict(meta)):
        yield "bad_json", f"unknown field {name}"
    if meta.key != key:
        yield "bad_key", f"key {meta.key!r} inside, {key!r} outside"
    for name, digest, digits in (("sha256", meta.source.sha256, 64), ("phash", meta.source.phash, 16)):
        if not is_hex(digest, digits):
            yield "bad_json", f"source.{name} {digest!r} is not {digits} lower-case hex digits"
    for message in _check_crop(meta.crop, side):
        yield "bad_json", message
    if meta.scores is not None:
        for message in _check_scores(meta.scores):
            yield "bad_json", message


def _unknown_fields(document: Any, known: Any, path: str = "") -> Iterator[str]:
    """Dotted paths that the document has and the parsed dataclasses dropped: a typo must not vanish silently."""
    if isinstance(document, dict) and isinstance(known, dict):
        for name, value in document.items():
            if name not in known:
                yield f"{path}{name}"
            else:
                yield from _unknown_fields(value, known[name], f"{path}{name}.")
    elif isinstance(document, list) and isinstance(known, list | tuple):
        for index, (value, other) in enumerate(zip(document, known, strict=False)):
            yield from _unknown_fields(value, other, f"{path}{index}.")


def _check_crop(crop: Crop, side: int | None) -> Iterator[str]:
    if side is not None and crop.size != side:
        yield f"crop.size {crop.size}, but the .jpg is {side} px"
    if crop.original_width < 1 or crop.original_height < 1:
        yield f"crop.original_width x original_height is {crop.original_width}x{crop.original_height}"
    affine = np.array(crop.affine)  # (3, 3)
    if not np.isfinite(affine).all() or not np.array_equal(affine[2], [0, 0, 1]):
        yield "crop.affine must be finite with the last row 0 0 1"
    elif abs(np.linalg.det(affine[:2, :2])) < 1e-9:
        yield "crop.affine cannot be inverted"


def _check_scores(scores: Scores) -> Iterator[str]:
    values = asdict(scores)
    sharpness = values.pop("sharpness")
    if not (np.isfinite(sharpness) and sharpness >= 0):
        yield f"scores.sharpness {sharpness} is negative or not finite"
    pairs = values.pop("keypoint_agreement")
    for name, value in (values | {f"keypoint_agreement.{pair}": v for pair, v in pairs.items()}).items():
        if value is not None and not 0 <= value <= 1:
            yield f"scores.{name} {value} lies outside [0, 1]"


def _check_labels(labels: Labels, side: int) -> Iterator[str]:
    """Ranges, in the order of the tensors. `side`: of the crop in pixels."""
    present = {name: value for name in TENSOR_FIELDS if (value := getattr(labels, name)) is not None}
    for name, value in present.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            yield f"{name} has values that are not finite"
        elif name.endswith("_2d") or name == "face_mesh":
            yield from _check_points(name, value, side)
        elif name in ("hand_side", "keypoint_visibility"):
            if (value > 1).any():
                yield f"{name} must be 0 or 1, found {int(value.max())}"
        elif name.endswith(("_transl", "_keypoints_3d", "head_deformation")):
            if np.abs(value).max(initial=0) > _FAR:
                yield f"{name} reaches {np.abs(value).max():.3g} m: are these millimetres?"
        elif name.endswith(("_pose", "_global_orient")) and np.abs(value).max(initial=0) > _MOST_TURN:
            yield f"{name} reaches {np.abs(value).max():.3g} rad: are these degrees?"
    yield from _check_relations(labels, present)
    for source, depth in labels.keypoint_depth.items():
        if not np.isfinite(depth.values).all():
            yield f"keypoint_depth.{source} has values that are not finite"
        elif not np.isin(depth.values[:, 1], (0, 1)).all():
            yield f"keypoint_depth.{source}: validity (column 1) must be 0 or 1"


def _check_points(name: str, points: NDArray[Any], side: int) -> Iterator[str]:
    """(N, 3) or (H, N, 3): the face and hand 0 lie in the crop or nearly, the person's other hands may be off the picture."""
    slack = np.full((*points.shape[:-2], 1), side)  # pixels outside the crop
    if points.ndim == 3:
        slack[1:] *= 8
    low, high = points[..., :2].min(-1), points[..., :2].max(-1)
    outside = np.argwhere((low < -slack) | (high > side + slack))
    if len(outside):
        x, y = points[tuple(outside[0])][:2]
        yield f"{name}{outside[0].tolist()} lies at ({x:.0f}, {y:.0f}), far outside the {side} px crop"
    if name.endswith("_2d") and not ((points[..., 2] >= 0) & (points[..., 2] <= 1)).all():
        yield f"{name}: confidence (column 2) must lie in [0, 1]"


def _check_relations(labels: Labels, present: Mapping[str, NDArray[Any]]) -> Iterator[str]:
    if ("hand_side" in present) != ("hand_keypoints_2d" in present):
        yield "hand_side and hand_keypoints_2d come together"
    for model, names in _NEEDS_MODEL.items():
        if getattr(labels, model) is None and (found := [name for name in names if name in present]):
            yield f"{', '.join(found)} without {model} in the header: of which body model are they?"
    if ("head_deformation_rows" in present) != ("head_deformation" in present):
        yield "head_deformation_rows and head_deformation come together"
    rows = present.get("head_deformation_rows")
    if rows is not None and len(rows) and (rows[0] < 0 or (np.diff(rows) <= 0).any()):
        yield "head_deformation_rows must be ascending vertex numbers"
    camera = present.get("camera_intrinsics")
    if camera is not None and not (camera[0, 0] > 0 and camera[1, 1] > 0 and np.array_equal(camera[2], [0, 0, 1])):
        yield "camera_intrinsics needs positive focal lengths and the last row 0 0 1"
