"""TDMRep files, X-Robots-Tag and other signals: whatever is unclear reserves."""

from __future__ import annotations

import io
import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from handface.pipeline.fetch.permission.optout import directives, header_refusal, image_refusal, tag_refusal
from handface.pipeline.fetch.permission.tdmrep import is_reserved, parse_tdmrep


def reserves(value: object, path: str = "/a.jpg", location: object = "/") -> bool:
    body = json.dumps([{"location": location, "tdm-reservation": value}])
    return parse_tdmrep(body.encode()).reserves(path)


@pytest.mark.parametrize("value", [1, "1", True, 1.0, "1.0", " 1 ", "true", "yes", 2, -1, None, "", [], {}, "on"])
def test_values_that_reserve(value):
    assert reserves(value) and is_reserved(value)


@pytest.mark.parametrize("value", [0, "0", False, 0.0, "0.0", "false", " 0 "])
def test_values_that_do_not(value):
    assert not reserves(value) and not is_reserved(value)


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf[{"location": "/", "tdm-reservation": 1}]',
        '[{"location": "/", "tdm-reservation": 1}]'.encode("utf-16"),
        b'{"location": "/", "tdm-reservation": 1}',
        b'\n\n [{"location": "/*", "tdm-reservation": "1"}]',
        b'[{"location": "https://h.example.com/", "tdm-reservation": 1}]',
        b'[{"location": "images", "tdm-reservation": 1}]',
        b"[{",
        b"[1]",
        b"null",
        b"not found",
        b'[{"location": "/"}]',
        b'[{"tdm-reservation": 0}]',
        b'[{"location": 5, "tdm-reservation": 0}]',
        b"[" * 100_000,
        b"\x00\x01",
    ],
)
def test_files_that_reserve(body):
    assert parse_tdmrep(body).reserves("/a.jpg")


@pytest.mark.parametrize("body", [b"", b"  \n", b"<!doctype html>", b"\xef\xbb\xbf <html>", b"[]"])
def test_files_that_say_nothing(body):
    assert not parse_tdmrep(body).reserves("/a.jpg")


def test_the_longest_rule_decides_and_of_equals_the_one_that_reserves():
    body = b'[{"location": "/a/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}, {"location": "/a/bc", "tdm-reservation": 0}]'
    rules = parse_tdmrep(body)
    assert [rules.reserves(path) for path in ("/", "/a/x", "/a/bc")] == [False, True, False]
    assert parse_tdmrep(b'[{"location":"/","tdm-reservation":0},{"location":"/","tdm-reservation":1}]').reserves("/")


def test_stars_cost_nothing():
    body = json.dumps([{"location": f"/*{'a*' * 14}b{i}$", "tdm-reservation": 1} for i in range(3000)]).encode()
    start = time.process_time()
    rules = parse_tdmrep(body)
    assert not any(rules.reserves("/" + "a" * 120 + ".jpg") for _ in range(50))
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    "value",
    [
        "noai",
        "noindex, noimageai",
        "noai noimageai",
        "noai;noimageai",
        "nofollow ; NoAI",
        "handface: noai",
        "HandFace/0.1: noai",
        "*: noindex",
        "otherbot: noindex, handface: noai",
        "unavailable_after: 25 Jun 2010 15:00:00 PST, noai",
        "unavailable_after: Sat, 25 Jun 2030 15:00:00 GMT, noimageai",
        "unavailable_after: Saturday, 25-Jun-30 15:00:00 UTC, none",
        "unavailable_after: 2030-06-25T15:00:00Z noai",
        "max-image-preview:none, none",
        "max-snippet:-1, max-image-preview:large, noml",
        "handface: max-image-preview: none, noindex",
        '"noai"',
        "noai: true",
        "noindex=1",
        "Some Bot: noindex",
        "\tnoai\n",
    ],
)
def test_tags_that_forbid(value):
    assert tag_refusal([value])
    assert header_refusal(CIMultiDict([("X-Robots-Tag", "all"), ("x-robots-tag", value)]))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "all",
        "max-image-preview:none",
        "max-image-preview: none",
        "max-image-preview=none",
        "index, follow, max-snippet:-1, max-image-preview:none, max-video-preview:-1",
        "otherbot: noai, noindex",
        "otherbot: none, googlebot: max-image-preview: none",
        "hand: noai",
        "handfaces: noai",
        "unavailable_after: 25 Jun 2030 15:00:00 PST",
        "nofollow, noarchive, nosnippet, notranslate",
        "googlebot: unavailable_after: 25 Jun 2030 15:00:00 PST, noai",
    ],
)
def test_tags_that_do_not(value):
    assert tag_refusal([value]) is None


def test_each_header_line_starts_afresh():
    assert header_refusal(CIMultiDict([("X-Robots-Tag", "otherbot: noai"), ("X-Robots-Tag", "noai")]))
    assert not header_refusal(CIMultiDict([("X-Robots-Tag", "otherbot: noai"), ("X-Robots-Tag", "max-snippet: 5")]))
    assert list(directives(["otherbot: a, handface: b c; d"])) == ["b", "c", "d"]


@pytest.mark.parametrize(
    ("header", "value", "refused"),
    [
        ("TDM-Reservation", "1", True),
        ("TDM-Reservation", "true", True),
        ("tdm-reservation", "1.0", True),
        ("TDM-Reservation", "", True),
        ("TDM-Reservation", "0", False),
        ("Content-Usage", "train-ai=n", True),
        ("Content-Signal", "search=yes, ai-train=no", True),
        ("Content-Signal", "search=yes, ai-train=yes", False),
    ],
)
def test_other_headers(header, value, refused):
    assert bool(header_refusal(CIMultiDict({header: value}))) is refused


def test_a_notice_in_a_compressed_text_of_a_png_is_found():
    notes, buffer = PngInfo(), io.BytesIO()
    notes.add_itxt("XML:com.adobe.xmp", "<plus:DataMining>DMI-PROHIBITED</plus:DataMining>" * 9, zip=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "PNG", pnginfo=notes)
    assert b"DMI-PROHIBITED" not in buffer.getvalue() and image_refusal(buffer.getvalue())


@given(st.binary(max_size=200), st.text(max_size=80))
@settings(max_examples=300, deadline=None)
def test_nothing_raises(body, text):
    parse_tdmrep(body).reserves("/" + text)
    parse_tdmrep(b'[{"location": "/", "tdm-reservation": ' + body + b"}]").reserves(text)
    tag_refusal([text])
    image_refusal(b"\x89PNG\r\n\x1a\n" + body)
