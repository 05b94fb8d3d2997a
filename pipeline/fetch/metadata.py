"""Takes EXIF, GPS, XMP, IPTC, C2PA and comments out of a file without touching its pixels, and notes what was there."""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator

from handface.pipeline.contract.images.picture import RejectedImage, read_orientation

_ORIENTATION = 0x0112
# Without one of these there is no orientation in a file: EXIF, XMP, and EXIF as hex text in a PNG's text.
_MAY_BE_TURNED = (b"Exif", b"eXIf", b"EXIF", b"tiff:Orientation", b"Raw profile type", b"iTXt", b"zTXt", b"XMP ")
_SCAN, _END = 0xDA, 0xD9
# Comment and APP1 to APP15; ICC (APP2) and Adobe (APP14) decide colours.
_JPEG_DROP = {0xFE, *range(0xE1, 0xF0)} - {0xE2, 0xEE}
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

    The orientation is kept, alone, in EXIF's usual form: the stripped file decodes to the same upright pixels.

    Raises:
        CutOffError: The file's structure ends too early or makes no sense.
    """
    cut = {"JPEG": _jpeg, "PNG": _png, "WEBP": _webp}.get(kind)
    if cut is None:
        return None
    try:
        orientation = read_orientation(data) if any(mark in data for mark in _MAY_BE_TURNED) else 1
        return cut(data, b"" if orientation == 1 else _exif(orientation))
    except (struct.error, IndexError, RejectedImage) as error:
        raise CutOffError(f"{kind}: {error}") from error


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


def _exif(orientation: int) -> bytes:
    """EXIF that says the orientation and nothing else (TIFF header, one entry)."""
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def _jpeg(data: bytes, exif: bytes) -> bytes:
    """What hides behind the picture's end (second pictures with their own EXIF, data) goes as well."""
    kept = [b"\xff\xd8"]
    if exif:
        kept.append(b"\xff\xe1" + struct.pack(">H", len(exif) + 8) + b"Exif\0\0" + exif)
    for marker, start, end in _segments(data):
        if marker not in _JPEG_DROP and not (marker == 0xE2 and data[start + 4 : start + 8] == b"MPF\0"):
            kept.append(data[start:end])
    return b"".join(kept)


def _png(data: bytes, exif: bytes) -> bytes:
    kept, at = [data[:8]], 8
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise CutOffError(f"chunk {name!r} is longer than the file")
        if name not in _PNG_DROP:
            kept.append(data[at:end])
        if name == b"IHDR" and exif:
            checksum = zlib.crc32(exif, zlib.crc32(b"eXIf"))
            kept.append(struct.pack(">I4s", len(exif), b"eXIf") + exif + struct.pack(">I", checksum))
        at = end
        if name == b"IEND":
            return b"".join(kept)
    raise CutOffError("no IEND")


def _webp(data: bytes, exif: bytes) -> bytes:
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
            # Flags of EXIF (8) and XMP (4).
            flags = data[at + 8] & ~0x0C | (0x08 if exif else 0)
            kept.append(data[at : at + 8] + bytes([flags]) + data[at + 9 : end])
        elif name in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP"):
            kept.append(data[at:end])
        at = end
    if exif:
        # Its length is even, so that no byte is needed to fill up.
        kept.append(struct.pack("<4sI", b"EXIF", len(exif)) + exif)
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body
