"""Decodes images that strangers made: type by content, size before pixels, upright, 8-bit RGB."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from handface.pipeline.contract.inputs import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

_EXIF_ORIENTATION = 0x0112
_TURNED = b"Exif\0\0", b"tiff:Orientation"  # without either, a JPEG is upright
# First bytes of the formats that are decoded; everything else is not an image to us.
_MAGIC = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\x00", b"MM\x00*"),
}
# What decoders raise for broken files: Pillow's plugins (RuntimeError: AVIF, TypeError: float TIFF), struct, zlib, simplejpeg.
_BROKEN = (
    *(OSError, ValueError, SyntaxError, EOFError, OverflowError, LookupError, RuntimeError, TypeError, AttributeError),
    *(struct.error, zlib.error, MemoryError),
)


@dataclass(frozen=True)
class DecodeConfig:
    """Limits on what is decoded."""

    max_pixels: int = 64_000_000
    """Images whose header announces more are not decoded."""
    min_side: int = 96
    """Images with a shorter side are too small."""


class RejectedImage(Exception):
    """Why a file is not a usable image: (reason, detail)."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def decode_image(
    data: bytes, config: DecodeConfig = DecodeConfig(), *, smooth_colours: bool = True
) -> NDArray[np.uint8]:
    """Bytes -> (H, W, 3) uint8 RGB, upright, alpha on white, first frame of an animation. Raises RejectedImage.

    smooth_colours: interpolate those that a JPEG stores at half size; without, they are repeated, for those who halve them again.
    """
    kind = sniff(data)
    if kind is None:
        start = data[:16].strip()
        what = "HTML" if start[:1] == b"<" else f"starts with {data[:8].hex()}"
        raise RejectedImage(Reason.NOT_IMAGE, what)
    if kind == "JPEG" and _plain_jpeg_size(data, config) and not any(mark in data for mark in _TURNED):
        try:
            return _decode_jpeg(data, smooth_colours)
        except _BROKEN as error:
            raise RejectedImage(Reason.CORRUPT, f"{kind}: {error}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about what is checked here
        picture = _open(data, kind, config)
        plain_jpeg = kind == "JPEG" and picture.mode == "RGB"
        try:
            image = _decode_jpeg(data, smooth_colours) if plain_jpeg else _to_rgb(picture)
        except _BROKEN as error:
            raise RejectedImage(Reason.CORRUPT, f"{kind}: {error}") from error
        # After the pixels: Pillow turns a TIFF by itself while it loads, and then forgets the tag.
        orientation = _orientation(picture)
    return np.ascontiguousarray(_upright(image, orientation))


def header_size(data: bytes, config: DecodeConfig = DecodeConfig()) -> tuple[int, int]:
    """(width, height) as the header announces them, nothing decoded. Raises RejectedImage for no image and for too many pixels."""
    kind = sniff(data)
    if kind is None:
        raise RejectedImage(Reason.NOT_IMAGE, f"starts with {data[:8].hex()}")
    if kind == "JPEG" and (size := _plain_jpeg_size(data, config)):
        return size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about what is checked here
        return _open(data, kind, config).size


def read_orientation(data: bytes, config: DecodeConfig = DecodeConfig()) -> int:
    """The orientation (EXIF 1 to 8) by which `decode_image` turns the pixels of a JPEG, PNG or WEBP, wherever the file says it.

    Raises:
        RejectedImage: It is no image, or its header announces too many pixels.
    """
    kind = sniff(data)
    if kind is None:
        raise RejectedImage(Reason.NOT_IMAGE, f"starts with {data[:8].hex()}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        orientation = _orientation(_open(data, kind, config))
    return orientation if 1 <= orientation <= 8 else 1


def sniff(data: bytes) -> str | None:
    """The image format by its first bytes, or None."""
    for kind, starts in _MAGIC.items():
        if data.startswith(starts):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):
        return "AVIF"
    return None


def _open(data: bytes, kind: str, config: DecodeConfig) -> Image.Image:
    """Read the header only, and refuse what it announces if that is too much."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # the cap below is ours, and names a reason
    try:
        picture = Image.open(io.BytesIO(data), formats=[kind])
    except _BROKEN as error:
        raise RejectedImage(Reason.CORRUPT, f"{kind} header: {error}") from error
    _check_size(*picture.size, config)
    return picture


def _plain_jpeg_size(data: bytes, config: DecodeConfig) -> tuple[int, int] | None:
    """(width, height) of a JPEG in YCbCr, the usual case, in a hundredth of Pillow's time; None for all others."""
    import simplejpeg

    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except _BROKEN:
        return None  # Pillow says what is wrong
    if colours != "YCbCr":
        return None
    _check_size(width, height, config)
    return width, height


def _check_size(width: int, height: int, config: DecodeConfig) -> None:
    if width * height > config.max_pixels:
        raise RejectedImage(Reason.TOO_MANY_PIXELS, f"header announces {width}x{height} pixels")
    if width * height == 0:
        raise RejectedImage(Reason.CORRUPT, f"header announces {width}x{height} pixels")


def _decode_jpeg(data: bytes, smooth_colours: bool) -> NDArray[np.uint8]:
    import simplejpeg

    image = simplejpeg.decode_jpeg(data, colorspace="RGB", fastupsample=not smooth_colours, strict=True)
    return np.asarray(image, np.uint8)


def _to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """Any Pillow mode -> (H, W, 3) uint8: 16-bit scaled, alpha composited on white, CMYK and palettes converted."""
    from PIL import Image

    picture.seek(0)
    if picture.mode.startswith(("I", "F")):
        return _from_deep(np.asarray(picture))
    if picture.mode == "P":
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    if picture.mode in ("LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return np.asarray(picture.convert("RGB"), np.uint8)


def _from_deep(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """(H, W) grey with more than 8 bits -> (H, W, 3) uint8: 16-bit integers by their full range, floats by their own."""
    if np.issubdtype(grey.dtype, np.integer) and grey.min() >= 0 and grey.max() <= 65535:
        low, high = 0.0, 65535.0
    else:
        finite = grey[np.isfinite(grey)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    eight = np.empty((*grey.shape, 3), np.uint8)
    for row in range(0, len(grey), 256):  # in strips: a float copy of a 64 MP image is half a gigabyte
        strip = np.nan_to_num(grey[row : row + 256].astype(np.float32))
        eight[row : row + 256] = np.clip((strip - low) / max(high - low, 1e-9) * 255, 0, 255).round()[..., None]
    return eight


def _orientation(picture: Image.Image) -> int:
    """As the tag says, whatever its type; broken EXIF is no reason to lose a photo."""
    try:
        value = picture.getexif().get(_EXIF_ORIENTATION, 1)
        if isinstance(value, bytes | tuple):
            value = value[0]
        return int(value)
    except (*_BROKEN, ZeroDivisionError):
        return 1


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the camera's EXIF orientation 1-8 (EXIF 2.3, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image
