"""What a file says besides its picture is taken out, the picture is not touched."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from handface.pipeline.fetch.metadata import CutOffError, presence, strip

SECRET = b"somebody's garden"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + SECRET + b"</x:xmpmeta>"
KINDS = {"JPEG": {"quality": 90}, "PNG": {}, "WEBP": {"lossless": True}}


def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(pixels.repeat(4, 0).repeat(4, 1))


def exif(orientation: int = 1) -> bytes:
    """Description, orientation, and a place on Earth."""
    found = Image.Exif()
    found[0x010E] = SECRET.decode()
    found[0x0112] = orientation
    found.get_ifd(0x8825).update({1: "N", 2: (48.0, 8.0, 0.0), 3: "E", 4: (11.0, 34.0, 0.0)})
    return found.tobytes()


def saved(kind: str, orientation: int = 1) -> bytes:
    """A file full of metadata, with a colour profile that has to stay."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = KINDS[kind] | {"exif": exif(orientation), "icc_profile": profile}
    if kind == "PNG":
        notes = PngInfo()
        notes.add_text("Comment", SECRET.decode())
        notes.add_itxt("XML:com.adobe.xmp", XMP.decode())
        options["pnginfo"] = notes
    else:
        options["xmp"] = XMP
    if kind == "JPEG":
        options["comment"] = SECRET
    buffer = io.BytesIO()
    picture().save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_everything_personal_goes_and_pixels_and_colours_stay(kind: str) -> None:
    data = saved(kind)
    assert SECRET in data and {"exif", "xmp"} <= presence(data).keys()
    clean = strip(data, kind)
    assert clean is not None and SECRET not in clean and not presence(clean)
    before, after = Image.open(io.BytesIO(data)), Image.open(io.BytesIO(clean))
    assert not after.getexif() and not after.getexif().get_ifd(0x8825)
    assert after.info.get("icc_profile") == before.info["icc_profile"]
    np.testing.assert_array_equal(np.asarray(after), np.asarray(before))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_jpeg_stays_upright(orientation: int) -> None:
    clean = strip(saved("JPEG", orientation), "JPEG")
    assert clean is not None
    found = dict(Image.open(io.BytesIO(clean)).getexif())
    assert found == ({0x0112: orientation} if orientation != 1 else {})


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_behind_the_end_goes(kind: str) -> None:
    clean = strip(saved(kind) + SECRET, kind)
    assert clean is not None and SECRET not in clean
    Image.open(io.BytesIO(clean)).load()


def test_a_chunk_of_content_credentials_is_noted_and_goes() -> None:
    data = saved("PNG")
    body = b"caBX" + b"jumb c2pa " + SECRET
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    signed = data[:33] + chunk + data[33:]  # after the header
    assert "c2pa" in presence(signed)
    clean = strip(signed, "PNG")
    assert clean is not None and "c2pa" not in presence(clean) and SECRET not in clean


def test_other_formats_are_left_to_re_encoding() -> None:
    buffer = io.BytesIO()
    picture().save(buffer, "GIF")
    assert strip(buffer.getvalue(), "GIF") is None


@given(st.sampled_from(sorted(KINDS)), st.data())
@settings(max_examples=60, deadline=None)
def test_cut_and_damaged_files_are_refused_or_stripped_but_never_crash(kind: str, data: st.DataObject) -> None:
    whole = bytearray(_SAVED[kind])
    cut = whole[: data.draw(st.integers(12, len(whole)))]
    for _ in range(data.draw(st.integers(0, 3))):
        cut[data.draw(st.integers(0, len(cut) - 1))] = data.draw(st.integers(0, 255))
    try:
        clean = strip(bytes(cut), kind)
    except CutOffError as error:
        assert str(error)
    else:
        assert clean is not None and len(clean) <= len(cut) + 40  # an orientation segment may be written anew


_SAVED = {kind: saved(kind) for kind in KINDS}
