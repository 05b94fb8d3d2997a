"""What crawl stores decodes to the same upright pixels as the original: over formats, places and types of the orientation tag."""

from __future__ import annotations

import binascii
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from handface.pipeline.contract.images.picture import RejectedImage, decode_image
from handface.pipeline.fetch.original import KeepConfig, make_original

UPRIGHT = np.zeros((96, 128, 3), np.uint8)
UPRIGHT[:48, :64] = (250, 30, 30)
UPRIGHT[48:, 64:] = (30, 30, 250)
UPRIGHT[40:56, 8:120] = 200
SECRET = b"somebody's garden"
# EXIF types: code -> how a value is packed (behind an offset where it has more than 4 bytes).
TYPES = {
    "byte": (1, lambda order, value: bytes([value])),
    "short": (3, lambda order, value: struct.pack(order + "H", value)),
    "long": (4, lambda order, value: struct.pack(order + "I", value)),
    "signed byte": (6, lambda order, value: bytes([value])),
    "signed short": (8, lambda order, value: struct.pack(order + "h", value)),
    "signed long": (9, lambda order, value: struct.pack(order + "i", value)),
    "ascii": (2, lambda order, value: str(value).encode() + b"\0"),
    "rational": (5, lambda order, value: struct.pack(order + "II", value, 1)),
    "float": (11, lambda order, value: struct.pack(order + "f", value)),
}
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
    8: lambda a: np.rot90(a, -1),
}  # from upright to as a camera with that orientation stores it


def exif(value: int, kind: str = "short", order: str = ">", count: int = 1) -> bytes:
    """A TIFF block with a secret description and the orientation."""
    code, pack = TYPES[kind]
    payload = pack(order, value) * count
    head = struct.pack(order + "2sHI", b"MM" if order == ">" else b"II", 42, 8)
    behind = 8 + 2 + 2 * 12 + 4
    if len(payload) > 4:
        field, tail = struct.pack(order + "I", behind + len(SECRET) + 1), payload
    else:
        field, tail = payload.ljust(4, b"\0"), b""
    number = count if kind != "ascii" else len(payload)
    entries = struct.pack(order + "HHII", 0x010E, 2, len(SECRET) + 1, behind)
    entries += struct.pack(order + "HHI", 0x0112, code, number) + field
    return head + struct.pack(order + "H", 2) + entries + bytes(4) + SECRET + b"\0" + tail


def xmp(value: int) -> bytes:
    text = f'<rdf:Description tiff:Orientation="{value}" dc:title="{SECRET.decode()}"/>'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{text}</x:xmpmeta>'.encode()


def stored(orientation: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(TURNS[orientation](UPRIGHT)))


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    options = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95}}.get(
        kind, {}
    ) | options
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def jpeg_with(picture: Image.Image, *segments: bytes) -> bytes:
    plain = saved(picture, "JPEG")
    return plain[:2] + b"".join(b"\xff\xe1" + struct.pack(">H", len(s) + 2) + s for s in segments) + plain[2:]


def png_with(picture: Image.Image, *chunks: bytes, late: bool = False) -> bytes:
    plain = saved(picture, "PNG")
    at = len(plain) - 12 if late else 33
    return plain[:at] + b"".join(chunks) + plain[at:]


def raw_profile(block: bytes) -> bytes:
    """EXIF as ImageMagick writes it into a PNG."""
    text = f"\nexif\n{len(block) + 6:8d}\n".encode() + binascii.hexlify(b"Exif\0\0" + block) + b"\n"
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


PLACES = {
    "JPEG, EXIF": lambda p, block, value: jpeg_with(p, b"Exif\0\0" + block),
    "JPEG, XMP": lambda p, block, value: jpeg_with(p, b"http://ns.adobe.com/xap/1.0/\0" + xmp(value)),
    "JPEG, XMP then EXIF": lambda p, block, value: jpeg_with(
        p, b"http://ns.adobe.com/xap/1.0/\0" + xmp(1), b"Exif\0\0" + block
    ),
    "PNG, eXIf": lambda p, block, value: png_with(p, chunk(b"eXIf", block)),
    "PNG, eXIf at the end": lambda p, block, value: png_with(p, chunk(b"eXIf", block), late=True),
    "PNG, EXIF as text": lambda p, block, value: png_with(p, raw_profile(block)),
    "PNG, XMP": lambda p, block, value: png_with(p, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(value))),
    "PNG, XMP compressed": lambda p, block, value: png_with(
        p, chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(value)))
    ),
    "WEBP, EXIF": lambda p, block, value: saved(p, "WEBP", exif=block),
    "WEBP, EXIF with a prefix": lambda p, block, value: saved(p, "WEBP", exif=b"Exif\0\0" + block),
    "WEBP, XMP": lambda p, block, value: saved(p, "WEBP", xmp=xmp(value)),
    "WEBP with alpha": lambda p, block, value: saved(p.convert("RGBA"), "WEBP", exif=block),
    "AVIF, EXIF": lambda p, block, value: saved(p, "AVIF", exif=block),
    "TIFF": lambda p, block, value: saved(p, "TIFF", tiffinfo={0x0112: value, 0x010E: SECRET.decode()}),
}


def keep(data: bytes, mode: str = "bytes"):
    return make_original(data, KeepConfig(mode=mode, jpeg_quality=100))


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("place", PLACES)
def test_the_usual_tag_is_kept_in_every_place(place, orientation):
    data = PLACES[place](stored(orientation), exif(orientation), orientation)
    original = keep(data)
    assert SECRET not in original.data
    before, after = decode_image(data), decode_image(original.data)
    np.testing.assert_array_equal(after, before)
    assert after.shape == UPRIGHT.shape and np.abs(after.astype(int) - UPRIGHT).mean() < 6
    again = keep(original.data)
    assert again.data == original.data, "what has been stripped stays as it is"


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("place", PLACES)
def test_re_encoding_turns_the_picture_upright(place, orientation):
    original = keep(PLACES[place](stored(orientation), exif(orientation), orientation), "reencode")
    after = decode_image(original.data)
    assert (original.width, original.height) == (128, 96)
    assert after.shape == UPRIGHT.shape and np.abs(after.astype(int) - UPRIGHT).mean() < 8


@given(
    st.sampled_from([place for place in PLACES if "TIFF" not in place]),
    st.sampled_from(sorted(TYPES)),
    st.sampled_from("<>"),
    st.integers(0, 9),
    st.integers(0, 2),
    st.integers(1, 8),
)
@settings(max_examples=120, deadline=None)
def test_any_type_of_the_tag_gives_the_same_pixels(place, kind, order, value, count, turned):
    try:
        data = PLACES[place](stored(turned), exif(value, kind, order, count), value)
    except (ValueError, OSError, RuntimeError, struct.error, TypeError):
        return  # the library that writes the file refuses such a tag
    try:
        before = decode_image(data)
    except RejectedImage:
        return
    np.testing.assert_array_equal(decode_image(keep(data).data), before)


@pytest.mark.parametrize("kind", ["byte", "short", "long", "signed short", "signed long"])
def test_whole_numbers_of_every_type_turn_the_picture(kind):
    for place in ("JPEG, EXIF", "PNG, eXIf", "WEBP, EXIF"):
        data = PLACES[place](stored(6), exif(6, kind, "<"), 6)
        after = decode_image(keep(data).data)
        assert after.shape == UPRIGHT.shape and np.abs(after.astype(int) - UPRIGHT).mean() < 6
