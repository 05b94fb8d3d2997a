"""Which way up a picture is: the EXIF orientation (EXIF 2.3, tag 0x0112) in whatever place and type a file has it."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

_TAG = 0x0112
# Without any of these bytes a file says nothing about its orientation.
_MARKS = {
    "JPEG": (b"Exif\0\0", b"tiff:Orientation"),
    "PNG": (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp"),
    "WEBP": (b"EXIF", b"XMP "),
}
# What Pillow raises for broken EXIF, which is no reason to lose a photo.
_BROKEN = (OSError, ValueError, TypeError, SyntaxError, EOFError, LookupError, OverflowError, struct.error, zlib.error)


def may_be_turned(data: bytes, kind: str) -> bool:
    """Whether a file of a format (as `sniff` names it) can carry an orientation at all, by a look at its bytes."""
    return any(mark in data for mark in _MARKS[kind]) if kind in _MARKS else True


def picture_orientation(picture: Image.Image) -> int:
    """The orientation, 1 to 8, of a picture that Pillow has opened; 1 where none is given or it makes no sense.

    EXIF comes first, in an APP1 segment, an `eXIf` or `EXIF` chunk before or after the pixels, or an ImageMagick text chunk; XMP
    where there is none. Writers store the tag as any type: SHORT as they should, LONG, BYTE, ASCII, RATIONAL.
    """
    try:
        return _number(picture.getexif().get(_TAG, 1))
    except _BROKEN:
        return 1


def upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn and mirror (H, W, 3) pixels as an EXIF orientation asks; a view."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def _number(value: Any) -> int:
    if isinstance(value, tuple | list):
        value = value[0] if value else 1
    if isinstance(value, bytes):
        value = value.strip(b"\0 ")
        value = int(value) if value.isdigit() else int.from_bytes(value[:1], "big")
    if isinstance(value, str):
        value = value.strip("\0 ")
    number = int(value)
    return number if 1 <= number <= 8 else 1
