"""Reads how an MP4 or MOV file wants its frames turned and mirrored: the matrix of its first video track (ISO 14496-12, 8.3.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_MAX_INDEX = 256 << 20  # bytes of a `moov` box
# Signs of the matrix (a, b, c, d), which takes (x, y) to (a x + c y, b x + d y), and the EXIF orientation that does the same.
_ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


def film_orientation(path: str) -> int | None:
    """The orientation as EXIF counts it, 1 to 8; None for other containers and for matrices that are no quarter turns."""
    try:
        with Path(path).open("rb") as file:
            index = _find_index(file.read(16), path)
    except OSError:
        return None
    if index is None:
        return None
    for track in _inside(index, b"trak"):
        media = next(_inside(track, b"mdia"), b"")
        handler = next(_inside(media, b"hdlr"), b"")
        header = next(_inside(track, b"tkhd"), b"")
        if handler[8:12] == b"vide":
            return _turn(header)
    return None


def _find_index(start: bytes, path: str) -> bytes | None:
    """The content of the `moov` box of a file that begins like an MP4 or MOV."""
    if start[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return None
    with Path(path).open("rb") as file:
        at = 0
        while len(head := file.read(16)) >= 8:
            size, kind = struct.unpack(">I4s", head[:8])
            length = 8
            if size == 1 and len(head) == 16:
                (size,) = struct.unpack(">Q", head[8:])
                length = 16
            if kind == b"moov":
                file.seek(at + length)
                return file.read(min(size - length, _MAX_INDEX) if size else _MAX_INDEX)
            if size < length:
                return None
            at += size
            file.seek(at)
    return None


def _inside(box: bytes, wanted: bytes) -> Iterator[bytes]:
    """The contents of the boxes of one kind directly inside a box."""
    at = 0
    while at + 8 <= len(box):
        size, kind = struct.unpack_from(">I4s", box, at)
        if size < 8:
            return
        if kind == wanted:
            yield box[at + 8 : at + size]
        at += size


def _turn(header: bytes) -> int | None:
    start = {0: 40, 1: 52}.get(header[0]) if header else None
    if start is None or len(header) < start + 36:
        return None
    a, b, _, c, d = struct.unpack_from(">5i", header, start)
    return _ORIENTATIONS.get((_sign(a), _sign(b), _sign(c), _sign(d)))


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
