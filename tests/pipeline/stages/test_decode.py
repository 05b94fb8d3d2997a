import io
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from handface.pipeline.contract.images.picture import (
    DecodeConfig,
    RejectedImage,
    decode_image,
    header_size,
    read_orientation,
    sniff,
)
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.decode import DecodeStage
from tests.pipeline.images import BAD, dc_jpeg, encode, gif, photo, png_header, with_orientation


def decoded(data: bytes) -> Record:
    record = Record(SourceItem("x"), data=data)
    DecodeStage()([record])
    return record


def refusal(data: bytes) -> RejectedImage:
    with pytest.raises(RejectedImage) as caught:
        decode_image(data)
    return caught.value


def test_a_jpeg_decodes_as_pillow_does_within_rounding():
    data = encode(photo(), quality=90)
    reference = np.asarray(Image.open(io.BytesIO(data)), np.int16)
    assert np.abs(decode_image(data) - reference).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_formats_come_back_exactly(kind):
    image = photo()
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_image(encode(image, kind, **options)), image)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_undone_as_pillow_undoes_it(orientation):
    image = photo(160, 120)
    data = with_orientation(image, orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), np.int16)
    result = decode_image(data)
    assert result.shape == expected.shape and np.abs(result - expected).max() <= 4


def test_cmyk_grey_palette_and_alpha_become_rgb():
    image = photo()
    grey = decode_image(encode(Image.fromarray(image).convert("L")))
    assert np.array_equal(grey[..., 0], grey[..., 1])
    cmyk = decode_image(encode(Image.fromarray(image).convert("CMYK"), quality=95))
    assert np.abs(cmyk.astype(int) - image).mean() < 6
    palette = decode_image(encode(Image.fromarray(image).quantize(256), "PNG"))
    assert np.abs(palette.astype(int) - image).mean() < 20
    clear = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    assert (decode_image(encode(clear, "PNG")) == 255).all()  # transparent is white, not what lies under it


def test_sixteen_bit_is_scaled_not_cut():
    ramp = np.linspace(0, 65535, 128 * 128).reshape(128, 128).astype(np.uint16)
    image = decode_image(encode(Image.fromarray(ramp), "PNG"))
    assert image.dtype == np.uint8 and image[0, 0, 0] == 0 and image[-1, -1, 0] == 255
    assert np.abs(image[..., 0].astype(int) - ramp // 257).max() <= 1


def test_an_animation_gives_its_first_frame_however_long_it_is():
    assert (decode_image(gif(40)) == 200).all()


@pytest.mark.parametrize(("name", "reason"), [(name, reason) for name, (_, reason) in BAD.items() if reason != "empty"])
def test_bad_files_have_their_reason(name, reason):
    record = decoded(BAD[name][0])
    assert record.reason == reason and record.detail and record.data is None


BRANDS = b"\0\0\0\x18ftyp%s\0\0\0\0%s"


def test_a_heic_without_its_package_has_its_own_reason_and_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refused = refusal(BRANDS % (b"heic", b"mif1heic") + bytes(300))
    assert refused.reason is Reason.HEIC and "handface[heic]" in refused.detail


@pytest.mark.parametrize(
    ("major", "others", "kind"),
    [
        (b"avif", b"mif1miaf", "AVIF"),
        (b"mif1", b"avifmiaf", "AVIF"),
        (b"msf1", b"avismiaf", "AVIF"),
        (b"heic", b"mif1heic", "HEIF"),
        (b"mif1", b"heicmif1", "HEIF"),
        (b"mif1", b"mif1miaf", "HEIF"),
        (b"isom", b"mp42avc1", None),
    ],
)
def test_brands_tell_avif_heif_and_films_apart(major, others, kind):
    assert sniff(BRANDS % (major, others) + bytes(40)) == kind


@pytest.mark.parametrize(("mode", "start"), [("RGB", b"P6"), ("L", b"P5"), ("1", b"P4")])
def test_portable_pixmaps_are_read(mode, start):
    data = encode(Image.fromarray(photo()).convert(mode), "PPM")
    assert data.startswith(start) and decode_image(data).shape == (120, 160, 3)


def slow_jpeg(scans: int) -> bytes:
    """A valid progressive JPEG of 2000x2000 pixels whose last scan but one stands there many times."""
    data = encode(Image.new("RGB", (2000, 2000), (90, 120, 30)), progressive=True)
    places = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    tables = data.rindex(b"\xff\xc4", 0, places[-2])
    last = data[tables : data.rindex(b"\xff\xc4", 0, places[-1])]
    return data[:-2] + last * scans + b"\xff\xd9"


def test_a_jpeg_that_would_take_minutes_is_refused_and_what_hides_behind_one_does_not_count():
    start = time.process_time()
    assert "scans of 2000x2000" in refusal(slow_jpeg(2000)).detail
    assert time.process_time() - start < 1
    assert decode_image(slow_jpeg(0) + b"\xff\xda" * 3000).shape == (2000, 2000, 3)


EVEN, UNEVEN = ((1, 1), (1, 1)), ((1, 1), (2, 1))
SAMPLINGS = [(first, EVEN) for first in ((4, 2), (3, 1), (2, 4), (1, 4), (4, 1), (2, 2), (1, 1))]
SAMPLINGS += [(first, UNEVEN) for first in ((2, 2), (2, 1), (4, 1))]


@pytest.mark.parametrize(("first", "others"), SAMPLINGS)
def test_every_sampling_is_decoded_as_pillow_does(first, others):
    data = dc_jpeg((first, *others))
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), int)
    assert expected.std((0, 1)).max() < 2 and expected[0, 0, 1] > expected[0, 0, 2] + 10
    assert np.abs(decode_image(data) - expected).max() <= 2


def test_decoding_leaves_pillows_limit_as_it_is():
    before = Image.MAX_IMAGE_PIXELS
    decode_image(encode(photo(), "PNG"))
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_wrong_extension_does_not_matter():
    assert sniff(encode(photo(), "PNG")) == "PNG" and decoded(encode(photo(), "PNG")).alive


def test_a_header_bomb_is_refused_without_allocating(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    assert refusal(png_header(30000, 30000)).reason is Reason.TOO_MANY_PIXELS
    with pytest.raises(RejectedImage, match="10x2000000"):
        decode_image(png_header(10, 2_000_000), DecodeConfig(max_pixels=19_000_000))


def test_broken_exif_does_not_cost_the_photo():
    data = with_orientation(photo(), 6)
    at = data.index(b"Exif\0\0")
    assert decode_image(data[: at + 8] + b"\xff\xff" + data[at + 10 :]).shape[2] == 3


def test_bytes_and_metadata_are_dropped():
    record = decoded(with_orientation(photo(160, 120), 6))
    assert record.data is None and record.original_size == (120, 160) and record.image.flags.c_contiguous


@given(st.binary(max_size=200), st.sampled_from(["", "JPEG", "PNG", "GIF", "TIFF", "WEBP"]))
def test_no_bytes_make_it_crash(tail, kind):
    head = encode(photo(8, 8), kind)[:40] if kind else b""
    try:
        assert decode_image(head + tail).dtype == np.uint8
    except RejectedImage as refused:
        assert refused.detail


def test_a_dark_sixteen_bit_picture_stays_dark():
    assert decode_image(encode(Image.fromarray(np.full((128, 128), 200, np.uint16)), "PNG")).max() == 1


@pytest.mark.parametrize("error", [RuntimeError("avif"), TypeError("tiff"), IndexError("gif"), MemoryError()])
def test_whatever_a_decoder_raises_is_a_corrupt_file(error, monkeypatch):
    def broken(self: Image.Image) -> None:
        raise error

    data = encode(photo(), "PNG")
    monkeypatch.setattr(Image.Image, "convert", lambda *_: broken(None))
    assert refusal(data).reason is Reason.CORRUPT


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"hello, I am\na letter", "text"), (b" <html>", "HTML"), (b"\x00\x01 and more bytes", "starts with 0001")],
)
def test_what_is_no_picture_is_told_in_words(data: bytes, said: str) -> None:
    for read in (decode_image, header_size, read_orientation):
        with pytest.raises(RejectedImage, match=said):
            read(data)
