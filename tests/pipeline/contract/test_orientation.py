"""For every format, place and type of the orientation tag: decoded pixels are upright, before and after the crawler's cut."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL.PngImagePlugin import PngInfo

from handface.pipeline.contract.images.orientation import upright
from handface.pipeline.contract.images.picture import decode_image, sniff
from handface.pipeline.fetch.metadata import strip
from tests.pipeline.images import encode

SHORT, LONG, BYTE, ASCII, RATIONAL, SSHORT, SLONG, UNDEFINED = 3, 4, 1, 2, 5, 8, 9, 7
TYPES = (SHORT, LONG, BYTE, ASCII, RATIONAL, SSHORT, SLONG, UNDEFINED)


def scene() -> np.ndarray:
    """(96, 144, 3): six flat fields of different colours, so that each of the eight orientations looks different."""
    colours = np.array([[250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20], [20, 250, 250], [250, 20, 250]])
    return colours.reshape(2, 3, 3).repeat(48, 0).repeat(48, 1).astype(np.uint8)


def stored(orientation: int) -> np.ndarray:
    """What a camera stores so that `orientation` turns it into the scene."""
    undone = {6: 8, 8: 6}.get(orientation, orientation)
    return np.ascontiguousarray(upright(scene(), undone))


def tiff_block(orientation: int, kind: int = SHORT, order: str = ">") -> bytes:
    """An EXIF block whose first directory holds a description and the orientation, as a value of any type."""
    value = {
        SHORT: lambda: struct.pack(order + "HH", orientation, 0),
        SSHORT: lambda: struct.pack(order + "hh", orientation, 0),
        LONG: lambda: struct.pack(order + "I", orientation),
        SLONG: lambda: struct.pack(order + "i", orientation),
        BYTE: lambda: bytes([orientation, 0, 0, 0]),
        UNDEFINED: lambda: bytes([orientation, 0, 0, 0]),
        ASCII: lambda: str(orientation).encode() + b"\0\0\0",
        RATIONAL: lambda: struct.pack(order + "I", 38),
    }[kind]()
    head = struct.pack(order + "2sHIH", b"MM" if order == ">" else b"II", 42, 8, 2)
    description = struct.pack(order + "HHI4s", 0x010E, ASCII, 4, b"abc\0")
    tag = struct.pack(order + "HHI4s", 0x0112, kind, 2 if kind == ASCII else 1, value)
    return head + description + tag + struct.pack(order + "I", 0) + struct.pack(order + "II", orientation, 1)


def xmp(orientation: int, element: bool) -> bytes:
    text = f"<tiff:Orientation>{orientation}</tiff:Orientation>" if element else ""
    attribute = "" if element else f' tiff:Orientation="{orientation}"'
    space = 'xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    return f"<x:xmpmeta><rdf:Description {space}{attribute}>{text}</rdf:Description></x:xmpmeta>".encode()


def jpeg(orientation: int, segment: bytes, *, after_tables: bool = False) -> bytes:
    data = encode(stored(orientation), quality=95, subsampling=0)
    piece = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    at = data.index(b"\xff\xc0") if after_tables else 2
    return data[:at] + piece + data[at:]


def png(orientation: int, name: bytes, body: bytes, *, at_end: bool = False) -> bytes:
    data = encode(stored(orientation), "PNG")
    chunk = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    at = len(data) - 12 if at_end else 33
    return data[:at] + chunk + data[at:]


def raw_profile(orientation: int) -> bytes:
    """How ImageMagick keeps EXIF in a PNG's text."""
    block = b"Exif\0\0" + tiff_block(orientation)
    text = f"\nexif\n{len(block):8d}\n{block.hex()}\n".encode()
    return b"Raw profile type exif\0\0" + zlib.compress(text)


def png_xmp(orientation: int, *, packed: bool) -> bytes:
    notes = PngInfo()
    notes.add_itxt("XML:com.adobe.xmp", xmp(orientation, False).decode(), zip=packed)
    return encode(stored(orientation), "PNG", pnginfo=notes)


def tiff(orientation: int, kind: int) -> bytes:
    """An uncompressed TIFF whose orientation entry is rewritten as another type."""
    data = bytearray(encode(stored(orientation), "TIFF", tiffinfo={0x0112: orientation}))
    at = data.index(struct.pack("<HHI", 0x0112, SHORT, 1))
    data[at : at + 12] = struct.pack("<HHI4s", 0x0112, kind, 1, bytes([orientation, 0, 0, 0]))
    return bytes(data)


def cases(orientation: int) -> dict[str, Callable[[], bytes]]:
    o = orientation
    found: dict[str, Callable[[], bytes]] = {
        "jpeg xmp attribute": lambda: jpeg(o, b"http://ns.adobe.com/xap/1.0/\0" + xmp(o, False)),
        "jpeg xmp element": lambda: jpeg(o, b"http://ns.adobe.com/xap/1.0/\0" + xmp(o, True)),
        "jpeg exif behind tables": lambda: jpeg(o, b"Exif\0\0" + tiff_block(o), after_tables=True),
        "png before pixels": lambda: png(o, b"eXIf", tiff_block(o)),
        "png after pixels": lambda: png(o, b"eXIf", tiff_block(o), at_end=True),
        "png raw profile": lambda: png(o, b"zTXt", raw_profile(o)),
        "png xmp": lambda: png_xmp(o, packed=False),
        "png xmp packed": lambda: png_xmp(o, packed=True),
        "webp exif": lambda: encode(stored(o), "WEBP", lossless=True, exif=tiff_block(o)),
        "webp exif prefix": lambda: encode(stored(o), "WEBP", lossless=True, exif=b"Exif\0\0" + tiff_block(o)),
        "webp lossy": lambda: encode(stored(o), "WEBP", quality=95, exif=tiff_block(o)),
        "webp xmp": lambda: encode(stored(o), "WEBP", lossless=True, xmp=xmp(o, False)),
        "tiff": lambda: encode(stored(o), "TIFF", tiffinfo={0x0112: o}),
        "tiff packed": lambda: encode(stored(o), "TIFF", tiffinfo={0x0112: o}, compression="tiff_lzw"),
        "avif": lambda: encode(stored(o), "AVIF", quality=95, exif=tiff_block(o)),
    }
    for kind in TYPES:
        for order in "><":
            found[f"jpeg type {kind} {order}"] = lambda k=kind, b=order: jpeg(o, b"Exif\0\0" + tiff_block(o, k, b))
        found[f"png type {kind}"] = lambda k=kind: png(o, b"eXIf", tiff_block(o, k, "<"))
        found[f"webp type {kind}"] = lambda k=kind: encode(stored(o), "WEBP", lossless=True, exif=tiff_block(o, k))
    for kind in (SHORT, LONG, BYTE):
        found[f"tiff type {kind}"] = lambda k=kind: tiff(o, k)
    return found


def is_scene(image: np.ndarray) -> bool:
    inner = np.s_[8:40], np.s_[56:88], np.s_[104:136]
    expected = scene()
    if image.shape != expected.shape:
        return False
    fields = [(rows, columns) for rows in inner[:2] for columns in inner]
    return all(np.abs(image[f].mean((0, 1)) - expected[f].mean((0, 1))).max() < 40 for f in fields)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("case", cases(1))
def test_pixels_are_upright_and_stay_so_without_metadata(case: str, orientation: int) -> None:
    data = cases(orientation)[case]()
    kind = sniff(data)
    assert kind is not None and is_scene(decode_image(data))
    if (clean := strip(data, kind)) is not None:
        assert is_scene(decode_image(clean))
        assert b"abc" not in clean


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_upright(orientation: int) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    data = encode(stored(orientation), "HEIF", quality=95, exif=tiff_block(orientation))
    assert sniff(data) == "HEIF" and is_scene(decode_image(data))


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_impossible_orientation_leaves_the_picture(value: int) -> None:
    data = encode(scene(), quality=95, subsampling=0)
    segment = b"Exif\0\0" + tiff_block(value)
    assert is_scene(decode_image(data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]))


def test_the_eight_orientations_look_different() -> None:
    assert sum(is_scene(stored(orientation)) for orientation in range(1, 9)) == 1
