"""A crawled image as it is kept: its bytes without metadata, and its provenance as flat JSON beside it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from handface.pipeline.contract.config import Count, JpegQuality
from handface.pipeline.contract.images.picture import DecodeConfig, RejectedImage, decode_image, header_size, sniff
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.fetch.metadata import CutOffError, presence, strip
from handface.pipeline.fetch.permission.optout import image_refusal

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVIDENCE = "evidence."  # prefix of evidence fields in the JSON
_QUICK_PIXELS = 1 << 20
_EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


@dataclass(frozen=True)
class KeepConfig:
    """How images are kept."""

    mode: Literal["bytes", "reencode"] = "bytes"
    """`bytes`: as they came, without metadata. `reencode`: decoded, made smaller if needed, JPEG."""
    max_side: Count = 1024
    """Re-encoded images are shrunk to this longer side."""
    jpeg_quality: JpegQuality = 95
    """Of re-encoded images."""
    limits: DecodeConfig = field(default_factory=DecodeConfig)


@dataclass(frozen=True)
class Original:
    """One kept image: extension and bytes, size in pixels as stored (before orientation), and what was found in the file."""

    extension: str
    data: bytes
    width: int
    height: int
    found: dict[str, str]

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the stored bytes."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def key(self) -> str:
        """First 16 hex of `sha256`."""
        return self.sha256[:16]


def make_original(data: bytes, config: KeepConfig, *, consent: bool = True) -> Original:
    """Check a fetched file by its header, obey its data-mining notice, take its metadata out. Raises RejectedImage."""
    if not data:
        raise RejectedImage(Reason.EMPTY, "0 bytes")
    kind, (width, height) = sniff(data), header_size(data, config.limits)
    found = presence(data)
    if consent and (refused := image_refusal(data)):
        raise RejectedImage(Reason.OPTOUT, refused)
    if min(width, height) < config.limits.min_side:
        raise RejectedImage(Reason.TOO_SMALL, f"{width}x{height} pixels")
    if config.mode == "reencode":
        return _reencoded(data, (width, height), config, found)
    try:
        stripped = strip(data, kind or "")
    except CutOffError as error:
        raise RejectedImage(Reason.CORRUPT, str(error)) from error
    if stripped is None:  # a format whose metadata cannot be cut out: keep its pixels, losslessly
        return _as_png(data, config, found)
    return Original(_EXTENSIONS[kind or ""], stripped, width, height, found)


def is_quick(data: bytes, config: KeepConfig) -> bool:
    """Whether `make_original` takes a few milliseconds: it only cuts metadata out, or there are few pixels to decode."""
    kind = sniff(data)
    if config.mode == "bytes" and kind in ("JPEG", "WEBP"):
        return True
    try:
        width, height = header_size(data, config.limits)
    except RejectedImage:
        return True
    # A progressive JPEG is gone through once for each of its scans.
    scans = data.count(b"\xff\xda") if kind == "JPEG" else 1
    return width * height * scans <= _QUICK_PIXELS


def provenance(original: Original, fields: dict[str, str], evidence: dict[str, str]) -> bytes:
    """The `.json` member: flat, so that any WebDataset reader and `annotate` take it as columns."""
    flat = fields | {EVIDENCE + name: value for name, value in evidence.items()}
    return json.dumps(flat | {"sha256": original.sha256}, sort_keys=True).encode()


def _reencoded(data: bytes, stored: tuple[int, int], config: KeepConfig, found: dict[str, str]) -> Original:
    """stored: (width, height) by the header, before the picture is turned upright."""
    import simplejpeg

    scale = config.max_side / max(stored)
    if scale >= 1:
        image = decode_image(data, config.limits)
    else:
        width, height = (max(1, round(side * scale)) for side in stored)
        # Twice the size leaves the resizing something to average over.
        image = decode_image(data, config.limits, at_least=(2 * width, 2 * height))
        turned = (image.shape[1] > image.shape[0]) != (width > height)
        image = _resized(image, (height, width) if turned else (width, height))
    encoded = simplejpeg.encode_jpeg(image, config.jpeg_quality, colorspace="RGB", colorsubsampling="420")
    return Original("jpg", encoded, image.shape[1], image.shape[0], found)


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 -> a smaller (width, height).

    By area below half the size; above it bilinear, which is three times as fast and loses a tenth of a decibel.
    """
    import cv2

    halved = 2 * size[0] <= image.shape[1]
    how = cv2.INTER_AREA if halved else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _as_png(data: bytes, config: KeepConfig, found: dict[str, str]) -> Original:
    import cv2

    image = decode_image(data, config.limits)
    done, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert done
    return Original("png", encoded.tobytes(), image.shape[1], image.shape[0], found)
