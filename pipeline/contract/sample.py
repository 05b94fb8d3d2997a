"""The contract between the rooms: one sample, as typed dataclasses, and its shard members (docs/sample_format.md).

Nothing here imports anything but numpy, safetensors and pydantic, so that a trainer can read shards without the pipeline.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydantic import TypeAdapter

SCHEMA_VERSION = "1.1"
READABLE_VERSIONS = ("1.0", "1.1")
KEY_LENGTH = 16
FACE_KEYPOINTS, HAND_KEYPOINTS, FACE_MESH = 68, 21, 478
DEPTH_POINTS = FACE_KEYPOINTS + HAND_KEYPOINTS
MAX_CROP = 512
LEFT, RIGHT = 0, 1  # the values of `hand_side`

DepthKind = Literal["affine-inverse", "affine", "affine-per-part", "metric"]
Origin3D = Literal["measured", "exact", "fitted"]
ORIGINS_3D: tuple[Origin3D, ...] = ("measured", "exact", "fitted")
DEPTH_KINDS: tuple[DepthKind, ...] = ("affine-inverse", "affine", "affine-per-part", "metric")


class SampleError(ValueError):
    """A sample or a member of one breaks the contract; the message names the member and the field."""


# --- the .json member: where it comes from, how it was made, how good it looks ---


@dataclass(frozen=True)
class Source:
    """Where the image comes from and under which terms."""

    uri: str
    sha256: str  # of the original file's bytes
    phash: str  # 64-bit DCT perceptual hash of the original, 16 hex
    member: str | None = None  # tar member or video time inside `uri`
    page: str | None = None
    licence: str | None = None
    author: str | None = None
    fetched_at: str | None = None  # ISO 8601 UTC day of the run that fetched it; None for local files
    evidence: dict[str, str] = field(default_factory=dict)  # robots, opt-out and other decisions, as found
    columns: dict[str, str] = field(default_factory=dict)  # further columns of the input list, kept as they were


@dataclass(frozen=True)
class Crop:
    """The square crop: `affine` maps homogeneous crop pixels to pixels of the upright original."""

    affine: tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
    size: int  # side of the stored crop in pixels
    original_width: int
    original_height: int


@dataclass(frozen=True)
class Scores:
    """How the sample looks to the filter. Ratios are relative to the face box; all but sharpness lie in [0, 1]."""

    contact: float  # the hand-face filter's confidence that hand 0 touches or is about to touch the face
    proximity: float  # 1 when a hand point lies on the face, 0 at one face size away
    occlusion: float  # share of the face covered by the hand
    face_confidence: float
    hand_confidence: float
    agreement: float | None  # of two hand passes or detectors on hand 0; None if only one saw it
    sharpness: float  # variance of the Laplacian of the crop at 256 px, grey levels squared
    keypoint_agreement: dict[str, float] = field(default_factory=dict)  # detector pair -> 1 - mean distance / face size


@dataclass(frozen=True)
class AnnotatorRecord:
    """Which network wrote which label: enough to run it again."""

    name: str
    task: str  # face_keypoints, hand_keypoints, depth, segmentation, ...
    version: str
    weights_sha256: str
    licence: str
    thresholds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SampleMeta:
    """The whole `.json` member. Training never needs to parse it."""

    key: str
    source: Source
    crop: Crop
    scores: Scores | None
    annotators: tuple[AnnotatorRecord, ...]
    schema_version: str = SCHEMA_VERSION


# --- the .safetensors member: every number a trainer wants ---


@dataclass(frozen=True)
class KeypointDepth:
    """Depth at the 89 keypoints from one source. values: (89, 2) float32, column 0 the value, column 1 validity 0 or 1."""

    values: NDArray[np.float32]
    kind: DepthKind


def _tensor(shape: tuple[int | str, ...], dtype: str, doc: str) -> Any:
    return field(default=None, metadata={"shape": shape, "dtype": dtype, "doc": doc})


@dataclass(frozen=True)
class Labels:
    """Numeric labels; a label that is not known is None. Letters in shapes are sizes that the file itself gives.

    Pixels are crop pixels with centres at integers; camera axes x right, y down, z forward; metres; radians; axis-angle.
    3D labels (hand_*, head_*, camera) belong to hand 0 and the face.
    """

    face_keypoints_2d: NDArray[np.float32] | None = _tensor((FACE_KEYPOINTS, 3), "F32", "x, y, confidence; iBUG order")
    hand_keypoints_2d: NDArray[np.float32] | None = _tensor(
        ("H", HAND_KEYPOINTS, 3), "F32", "x, y, confidence; MediaPipe order; hand 0 is the one at the face"
    )
    hand_side: NDArray[np.uint8] | None = _tensor(("H",), "U8", "0 left, 1 right: the person's own, as in the photo")
    face_mesh: NDArray[np.float32] | None = _tensor(
        (FACE_MESH, 3), "F32", "MediaPipe face mesh: x, y, relative z in crop pixels, smaller is nearer"
    )
    keypoint_visibility: NDArray[np.uint8] | None = _tensor(
        (DEPTH_POINTS,), "U8", "1 where the point is seen; face, hand 0"
    )
    camera_intrinsics: NDArray[np.float32] | None = _tensor((3, 3), "F32", "perspective camera of the crop, pixels")
    hand_betas: NDArray[np.float32] | None = _tensor(("Bh",), "F32", "hand shape")
    hand_pose: NDArray[np.float32] | None = _tensor(("Jh", 3), "F32", "hand joint rotations without the root")
    hand_global_orient: NDArray[np.float32] | None = _tensor((3,), "F32", "hand root rotation")
    hand_transl: NDArray[np.float32] | None = _tensor((3,), "F32", "hand translation, metres")
    hand_keypoints_3d: NDArray[np.float32] | None = _tensor((HAND_KEYPOINTS, 3), "F32", "camera coordinates, metres")
    hand_contact: NDArray[np.uint8] | None = _tensor(
        ("ceil(Vh/8)",), "U8", "packed bits per hand vertex, most significant first"
    )
    head_betas: NDArray[np.float32] | None = _tensor(("Bf",), "F32", "head shape")
    head_expression: NDArray[np.float32] | None = _tensor(("E",), "F32", "expression coefficients")
    head_pose: NDArray[np.float32] | None = _tensor(
        ("Jf", 3), "F32", "head joint rotations without the root (neck, jaw, eyes)"
    )
    head_global_orient: NDArray[np.float32] | None = _tensor((3,), "F32", "head root rotation")
    head_transl: NDArray[np.float32] | None = _tensor((3,), "F32", "head translation, metres")
    head_keypoints_3d: NDArray[np.float32] | None = _tensor((FACE_KEYPOINTS, 3), "F32", "camera coordinates, metres")
    head_contact: NDArray[np.uint8] | None = _tensor(
        ("ceil(Vf/8)",), "U8", "packed bits per head vertex, most significant first"
    )
    head_deformation_rows: NDArray[np.int32] | None = _tensor(("N",), "I32", "vertices that move, ascending")
    head_deformation: NDArray[np.float16] | None = _tensor(
        ("N", 3), "F16", "their displacement, metres, head model axes"
    )
    keypoint_depth: Mapping[str, KeypointDepth] = field(default_factory=dict)  # source name -> values, one tensor each
    hand_model: str | None = None  # names of the body models that the 3D labels are for
    head_model: str | None = None
    origin_3d: Origin3D | None = None  # where the 3D labels are from: a studio, a renderer, or a fit to 2D points
    fit_quality: float | None = None  # of fitted labels, in [0, 1]


TENSOR_FIELDS = {f.name: f for f in fields(Labels) if "shape" in f.metadata}
_NUMPY = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "U8": np.uint8}
_DEPTH_PREFIX = "keypoint_depth."


@dataclass(frozen=True)
class Sample:
    """One sample: the encoded crop, its labels, its provenance; perhaps a 16-bit depth map and a mask of the person over the crop."""

    image: bytes  # JPEG
    labels: Labels
    meta: SampleMeta
    depth_png: bytes | None = None
    mask_png: bytes | None = None  # 8-bit grey: 255 on the person, 0 on the background

    @property
    def key(self) -> str:
        """The name shared by the sample's members."""
        return self.meta.key


def is_hex(text: str, digits: int) -> bool:
    """Whether a key, checksum or hash is so many lower-case hex digits."""
    return re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None


def sample_key(image: bytes) -> str:
    """First 16 hex of the sha256 of the `.jpg` member, so that anyone can check it from the shard alone."""
    return hashlib.sha256(image).hexdigest()[:KEY_LENGTH]


# --- members of a shard, there and back ---


def encode(sample: Sample) -> dict[str, bytes]:
    """A sample as {extension: bytes}, in the order the members are written. Equal samples give equal bytes."""
    members = {
        "jpg": sample.image,
        "json": _meta_adapter().dump_json(sample.meta),  # with its nulls: every sample has the same fields
        "safetensors": encode_labels(sample.labels),
    }
    if sample.depth_png is not None:
        members["depth.png"] = sample.depth_png
    if sample.mask_png is not None:
        members["mask.png"] = sample.mask_png
    return members


def decode(members: Mapping[str, bytes]) -> Sample:
    """The inverse of `encode`. Raises SampleError naming the member that is missing or wrong."""
    for extension in ("jpg", "json", "safetensors"):
        if extension not in members:
            raise SampleError(f"member .{extension} is missing")
    return Sample(
        image=members["jpg"],
        labels=decode_labels(members["safetensors"]),
        meta=decode_meta(members["json"]),
        depth_png=members.get("depth.png"),
        mask_png=members.get("mask.png"),
    )


def encode_labels(labels: Labels) -> bytes:
    """Labels as one safetensors blob; checks names, dtypes and shapes. Raises SampleError."""
    from safetensors.numpy import save

    tensors: dict[str, NDArray[Any]] = {}
    metadata = {"schema_version": SCHEMA_VERSION}
    for name in TENSOR_FIELDS:
        value = getattr(labels, name)
        if value is not None:
            tensors[name] = np.ascontiguousarray(value)
    for source, depth in labels.keypoint_depth.items():
        tensors[_DEPTH_PREFIX + source] = np.ascontiguousarray(depth.values)
        metadata[f"depth_kind.{source}"] = depth.kind
    for name in ("hand_model", "head_model"):
        if (model := getattr(labels, name)) is not None:
            metadata[name] = model
    if labels.origin_3d is not None:
        metadata["origin_3d"] = labels.origin_3d
    if labels.fit_quality is not None:
        metadata["fit_quality"] = f"{labels.fit_quality:.4f}"
    check_tensors(tensors)
    return _canonical(save(tensors, metadata=metadata))


def decode_labels(blob: bytes) -> Labels:
    """Labels from a safetensors blob: zero-copy, read-only views. Raises SampleError on what the contract does not know."""
    tensors, metadata = read_tensors(blob)
    check_tensors(tensors)
    depth: dict[str, KeypointDepth] = {}
    for name in [n for n in tensors if n.startswith(_DEPTH_PREFIX)]:
        source = name.removeprefix(_DEPTH_PREFIX)
        kind = metadata.get(f"depth_kind.{source}")
        if kind not in DEPTH_KINDS:
            raise SampleError(f".safetensors: {name} has depth_kind {kind!r}; expected one of {', '.join(DEPTH_KINDS)}")
        depth[source] = KeypointDepth(tensors.pop(name), kind)
    models = {name: metadata.get(name) for name in ("hand_model", "head_model")}
    fields: dict[str, Any] = {**tensors, **models, **_origin(metadata)}
    return Labels(keypoint_depth=depth, **fields)


def _origin(metadata: Mapping[str, str]) -> dict[str, Any]:
    """`origin_3d` and `fit_quality` from a header. Raises SampleError: who cannot tell a fitted label must not take it for truth."""
    origin, quality = metadata.get("origin_3d"), metadata.get("fit_quality")
    if origin is not None and origin not in ORIGINS_3D:
        raise SampleError(f".safetensors: origin_3d is {origin!r}; expected one of {', '.join(ORIGINS_3D)}")
    if (origin == "fitted") != (quality is not None):
        raise SampleError(".safetensors: fitted 3D labels, and no others, have a fit_quality")
    if quality is None:
        return {"origin_3d": origin}
    try:
        number = float(quality)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise SampleError(f".safetensors: fit_quality is {quality!r}; expected a number from 0 to 1")
    return {"origin_3d": origin, "fit_quality": number}


def read_tensors(blob: bytes) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """A safetensors blob as views into it, and its header's metadata; 10x cheaper than the library's own copy-out.

    Layout: 8 bytes little-endian header length, JSON header, tensor bytes (github.com/huggingface/safetensors, Format).
    """
    try:
        length = int.from_bytes(blob[:8], "little")
        header = json.loads(blob[8 : 8 + length])
        metadata = {name: str(value) for name, value in header.pop("__metadata__", {}).items()}
        start = 8 + length
        tensors = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            if not 0 <= begin <= end <= len(blob) - start:
                raise ValueError(f"tensor {name} lies outside the file")
            flat = np.frombuffer(blob, _NUMPY[entry["dtype"]], offset=start + begin, count=_count(entry, begin, end))
            tensors[name] = flat.reshape(entry["shape"])
    except KeyError as error:
        raise SampleError(f".safetensors: unknown dtype or missing field {error}") from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise SampleError(f".safetensors: not a readable safetensors file ({error})") from error
    return tensors, metadata


def check_tensors(tensors: Mapping[str, NDArray[Any]]) -> None:
    """Check names, dtypes and shapes, equal letters meaning equal sizes. Raises SampleError naming the tensor."""
    sizes: dict[str, int] = {}
    for name, value in tensors.items():
        if name.startswith(_DEPTH_PREFIX):
            shape: tuple[int | str, ...] = (DEPTH_POINTS, 2)
            dtype = "F32"
        elif name in TENSOR_FIELDS:
            shape, dtype = TENSOR_FIELDS[name].metadata["shape"], TENSOR_FIELDS[name].metadata["dtype"]
        else:
            raise SampleError(f".safetensors: unknown tensor {name!r} (schema {SCHEMA_VERSION})")
        expected = tuple(
            sizes.setdefault(s, n) if isinstance(s, str) else s for s, n in zip(shape, value.shape, strict=False)
        )
        if value.dtype != _NUMPY[dtype] or len(value.shape) != len(shape) or expected != value.shape:
            raise SampleError(
                f".safetensors: {name} is {value.dtype}{list(value.shape)}, expected {np.dtype(_NUMPY[dtype])}{list(shape)}"
                + (f" with {sizes}" if sizes else "")
            )


def decode_meta(blob: bytes) -> SampleMeta:
    """The `.json` member as typed data. Raises SampleError naming the field."""
    from pydantic import ValidationError

    try:
        return _meta_adapter().validate_json(blob)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise SampleError(f".json: {where}: {first['msg']}") from error


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the `.json` member, with the tensors of `.safetensors` under `x-tensors`."""
    schema = _meta_adapter().json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"handface sample {SCHEMA_VERSION}"
    schema["x-tensors"] = {
        name: {"shape": list(f.metadata["shape"]), "dtype": f.metadata["dtype"], "description": f.metadata["doc"]}
        for name, f in TENSOR_FIELDS.items()
    } | {
        _DEPTH_PREFIX + "<source>": {
            "shape": [DEPTH_POINTS, 2],
            "dtype": "F32",
            "description": "value and validity at the face and hand 0 keypoints; kind in the header as depth_kind.<source>, one of "
            + ", ".join(DEPTH_KINDS),
        }
    }
    return schema


@cache
def _meta_adapter() -> TypeAdapter[SampleMeta]:
    from pydantic import TypeAdapter

    return TypeAdapter(SampleMeta)


def _count(entry: Mapping[str, Any], begin: int, end: int) -> int:
    count = math.prod(entry["shape"])  # a fifteenth of np.prod's time, and this runs for every tensor of every sample
    if count * np.dtype(_NUMPY[entry["dtype"]]).itemsize != end - begin:
        raise ValueError(f"shape {entry['shape']} does not fill its bytes")
    return count


def _canonical(blob: bytes) -> bytes:
    """The same file with its header keys sorted: the library's metadata comes in hash order, and parts must be byte-identical."""
    length = int.from_bytes(blob[:8], "little")
    header = json.dumps(json.loads(blob[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + blob[8 + length :]
