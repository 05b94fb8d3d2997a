"""Takes EXIF, GPS, XMP, IPTC, C2PA and comments out of a file without touching its pixels, and notes what was there."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator

_ORIENTATION = 0x0112
_SCAN, _END = 0xDA, 0xD9
_JPEG_DROP = {0xFE, *range(0xE1, 0xF0)} - {
    0xE2,
    0xEE,
}  # comment, APP1..APP15; ICC (APP2) and Adobe (APP14) decide colours
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # within a scan: neither a stuffed zero, a restart nor a fill byte
_PNG_DROP = {b"eXIf", b"tEXt", b"iTXt", b"zTXt", b"tIME", b"caBX", b"iDOT"}
_MARKS = {  # evidence name -> byte patterns that give its presence away
    "exif": (b"Exif\0\0", b"eXIf", b"EXIF"),
    "iptc": (b"Photoshop 3.0\0", b"Iptc4xmpCore", b"Iptc4xmpExt"),
    "xmp": (b"http://ns.adobe.com/xap/", b"<x:xmpmeta", b"XML:com.adobe.xmp"),
    "c2pa": (b"c2pa", b"caBX"),
}


class CutOffError(ValueError):
    """A file whose structure ends too early or makes no sense."""


def strip(data: bytes, kind: str) -> bytes | None:
    """The same picture without metadata, for JPEG, PNG and WEBP; None for formats that must be re-encoded instead.

    A JPEG's orientation is kept, alone. Raises CutOffError.
    """
    try:
        if kind == "JPEG":
            return _jpeg(data)
        if kind == "PNG":
            return _png(data)
        if kind == "WEBP":
            return _webp(data)
    except (struct.error, IndexError) as error:
        raise CutOffError(f"{kind}: {error}") from error
    return None


def presence(data: bytes) -> dict[str, str]:
    """{"c2pa": "present", ...} for each kind of metadata that the file carries.

    Looks at everything in a JPEG but its scans, and at the first and last 256 kB of other (and of broken) files.
    """
    head = data if len(data) < 1 << 19 else data[: 1 << 18] + data[-(1 << 18) :]
    if data[:2] == b"\xff\xd8":
        with contextlib.suppress(CutOffError, struct.error, IndexError):
            spans = list(_segments(data))
            head = b"".join(data[at:end] for marker, at, end in spans if marker != _SCAN) + data[spans[-1][2] :]
    return {name: "present" for name, patterns in _MARKS.items() if any(pattern in head for pattern in patterns)}


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of a JPEG's segments (ITU T.81, B.1), scans with their data, up to the first picture's end."""
    at = 2
    while at < len(data):
        while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise CutOffError(f"no marker at byte {at}")
        marker = data[at + 1]
        if marker == _END:
            yield marker, at, at + 2
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2 or at + 2 + length > len(data):
            raise CutOffError(f"segment at byte {at} is longer than the file")
        end = at + 2 + length
        if marker == _SCAN:
            following = _MARKER.search(data, end)
            if following is None:
                raise CutOffError("the file ends inside the picture")
            end = following.start()
        yield marker, at, end
        at = end
    raise CutOffError("no end of the picture")


def _jpeg(data: bytes) -> bytes:
    """What hides behind the picture's end (second pictures with their own EXIF, data) goes as well."""
    kept, orientation = [b"\xff\xd8"], 1
    for marker, start, end in _segments(data):
        if marker == 0xE1 and data[start + 4 : start + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[start + 10 : end])
        if marker not in _JPEG_DROP and not (marker == 0xE2 and data[start + 4 : start + 8] == b"MPF\0"):
            kept.append(data[start:end])
    if orientation != 1:
        kept.insert(1, _orientation_segment(orientation))
    return b"".join(kept)


def _exif_orientation(tiff: bytes) -> int:
    try:
        order = {b"II": "<", b"MM": ">"}[tiff[:2]]
        (at,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, at)
        for i in range(count):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, at + 2 + 12 * i)
            if tag == _ORIENTATION and kind == 3:
                return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error):
        pass  # broken EXIF is no reason to lose a photo
    return 1


def _orientation_segment(orientation: int) -> bytes:
    tiff = struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", len(tiff) + 8) + b"Exif\0\0" + tiff


def _png(data: bytes) -> bytes:
    kept, at = [data[:8]], 8
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise CutOffError(f"chunk {name!r} is longer than the file")
        if name not in _PNG_DROP:
            kept.append(data[at:end])
        at = end
        if name == b"IEND":
            return b"".join(kept)
    raise CutOffError("no IEND")


def _webp(data: bytes) -> bytes:
    kept, at = [], 12
    (size,) = struct.unpack_from("<I", data, 4)
    end_of_file = 8 + size
    if end_of_file > len(data):
        raise CutOffError("RIFF is longer than the file")
    while at + 8 <= end_of_file:
        name, length = struct.unpack_from("<4sI", data, at)
        end = at + 8 + length + (length & 1)
        if at + 8 + length > end_of_file:
            raise CutOffError(f"chunk {name!r} is longer than the file")
        if name == b"VP8X":
            kept.append(data[at : at + 8] + bytes([data[at + 8] & ~0x0C]) + data[at + 9 : end])  # no EXIF, no XMP
        elif name in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"):
            kept.append(data[at:end])
        at = end
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body
