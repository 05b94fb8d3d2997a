"""Decodes pictures of unknown origin: type by content, size before pixels, upright, 8-bit RGB."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.contract.config import Count
from handface.pipeline.contract.images.orientation import may_be_turned, picture_orientation, upright
from handface.pipeline.contract.inputs import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

# First bytes of the formats that are decoded; everything else is not an image to us.
_MAGIC = {
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\x00", b"MM\x00*"),
}
_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"msf1"}
HEIC_ADVICE = "a HEIC picture: install pillow-heif (`pip install 'handface[heic]'`), or convert it to JPEG"
# Pixels of a JPEG times its scans: above this, decoding takes longer than a few seconds. Photos have about ten scans.
_MAX_SCANNED_PIXELS = 2_500_000_000
# What decoders raise for broken files: Pillow's plugins (RuntimeError: AVIF, TypeError: float TIFF), struct, zlib, simplejpeg.
_BROKEN = (
    *(OSError, ValueError, SyntaxError, EOFError, OverflowError, LookupError, RuntimeError, TypeError, AttributeError),
    *(struct.error, zlib.error, MemoryError),
)


@dataclass(frozen=True)
class DecodeConfig:
    """Limits on what is decoded."""

    max_pixels: Count = 64_000_000
    """Images whose header announces more are not decoded."""
    min_side: int = 96
    """Images with a shorter side are too small."""


class RejectedImage(Exception):
    """Why a file is not a usable image: (reason, detail)."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def decode_image(
    data: bytes, config: DecodeConfig = DecodeConfig(), *, at_least: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Bytes -> (H, W, 3) uint8 RGB, upright, alpha on white, first frame of an animation. Raises RejectedImage.

    at_least: (width, height) as stored, for those who make the picture smaller: a JPEG may come at a half, a quarter or an eighth of
    its size, but not below this, and colours that it stores at half size are repeated, not interpolated.
    """
    kind = sniff(data)
    if kind is None:
        raise RejectedImage(Reason.NOT_IMAGE, _what_else(data))
    plain_jpeg = kind == "JPEG" and _plain_jpeg_size(data, config) is not None
    try:
        if plain_jpeg and not may_be_turned(data, kind):
            return _decode_jpeg(data, at_least)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about what is checked here
            picture = _open(data, kind, config)
            image = _decode_jpeg(data, at_least) if plain_jpeg else _to_rgb(picture)
            # After decoding: Pillow turns a TIFF while it loads, and reads a PNG's last chunks only then.
            orientation = picture_orientation(picture)
    except _BROKEN as error:
        raise RejectedImage(Reason.CORRUPT, f"{kind}: {error}") from error
    return np.ascontiguousarray(upright(image, orientation))


def header_size(data: bytes, config: DecodeConfig = DecodeConfig()) -> tuple[int, int]:
    """(width, height) as the header announces them, nothing decoded. Raises RejectedImage for no image and for too many pixels."""
    kind = sniff(data)
    if kind is None:
        raise RejectedImage(Reason.NOT_IMAGE, _what_else(data))
    if kind == "JPEG" and (size := _plain_jpeg_size(data, config)):
        return size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about what is checked here
        return _open(data, kind, config).size


def _what_else(data: bytes) -> str:
    """What bytes are that are no picture, in words."""
    start = data[:64].strip()
    if start[:1] == b"<":
        return "HTML"
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "text"
    return f"starts with {data[:8].hex()}"


def sniff(data: bytes) -> str | None:
    """The image format by its first bytes, or None."""
    for kind, starts in _MAGIC.items():
        if data.startswith(starts):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "PPM"
    return _sniff_boxes(data) if data[4:8] == b"ftyp" else None


def read_orientation(data: bytes, config: DecodeConfig = DecodeConfig()) -> int:
    """The orientation (EXIF 1 to 8) by which `decode_image` turns the pixels of a JPEG, PNG or WEBP, wherever the file says it.

    Raises:
        RejectedImage: It is no image, or its header announces too many pixels.
    """
    kind = sniff(data)
    if kind is None:
        raise RejectedImage(Reason.NOT_IMAGE, _what_else(data))
    if not may_be_turned(data, kind):
        return 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return picture_orientation(_open(data, kind, config))


def _sniff_boxes(data: bytes) -> str | None:
    """AVIF or HEIF by the major brand, else by the compatible ones: `mif1` alone says neither."""
    end = min(int.from_bytes(data[:4], "big"), len(data), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]
    for names in ([brands[0]] if brands[0] not in (b"mif1", b"msf1") else [], brands):
        if _AVIF & set(names):
            return "AVIF"
        if _HEIF & set(names):
            return "HEIF"
    return None


def _open(data: bytes, kind: str, config: DecodeConfig) -> Image.Image:
    """Read the header only, and refuse what it announces if that is too much."""
    from PIL import Image

    try:
        if kind == "HEIF":
            picture = _open_heif(data)
        else:
            Image.init()
            # The plugin itself: Image.open has a limit of pixels that holds for the whole process, ours names a reason.
            picture = Image.OPEN[kind][0](io.BytesIO(data), "")
    except _BROKEN as error:
        raise RejectedImage(Reason.CORRUPT, f"{kind} header: {error}") from error
    _check_size(data, *picture.size, config)
    return picture


def _open_heif(data: bytes) -> Image.Image:
    """Upright by itself. Raises RejectedImage where the package is missing."""
    try:
        import pillow_heif
    except ImportError as error:
        raise RejectedImage(Reason.HEIC, HEIC_ADVICE) from error
    picture: Image.Image = pillow_heif.HeifImageFile(io.BytesIO(data), "")
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
    _check_size(data, width, height, config)
    return width, height


def _check_size(data: bytes, width: int, height: int, config: DecodeConfig) -> None:
    if width * height > config.max_pixels:
        raise RejectedImage(Reason.TOO_MANY_PIXELS, f"header announces {width}x{height} pixels")
    if width * height == 0:
        raise RejectedImage(Reason.CORRUPT, f"header announces {width}x{height} pixels")
    # A progressive JPEG is gone through once for each scan; libtiff has a limit of its own.
    most = _MAX_SCANNED_PIXELS // (width * height)
    if data[:2] == b"\xff\xd8" and data.count(b"\xff\xda") > most and (scans := _count_scans(data)) > most:
        raise RejectedImage(Reason.TOO_MANY_PIXELS, f"{scans} scans of {width}x{height} pixels take too long to decode")


def _count_scans(data: bytes) -> int:
    """Scans of a JPEG up to the end of its picture; what hides behind it does not count."""
    at, scans = 2, 0
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 3:
        marker = data[at + 1]
        if marker == 0xD9:
            break
        scans += marker == 0xDA
        # Fill bytes, stuffed zeros, restarts; all other markers begin a segment with its length.
        alone = marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8
        at += 1 if marker == 0xFF else 2 if alone else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return scans


def _decode_jpeg(data: bytes, at_least: tuple[int, int] | None) -> NDArray[np.uint8]:
    import simplejpeg

    options: dict[str, Any] = {}
    if at_least is not None:
        # Factors below 2 take longer than the whole.
        options = {"fastupsample": True, "min_width": at_least[0], "min_height": at_least[1], "min_factor": 2}
    image = simplejpeg.decode_jpeg(data, colorspace="RGB", strict=True, **options)
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
