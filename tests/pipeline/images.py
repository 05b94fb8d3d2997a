"""Pictures for tests: ordinary, odd and hostile, all made here."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def photo(width: int = 160, height: int = 120, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: smooth colours with grain, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    return np.clip(np.asarray(coarse, np.int16) + rng.integers(-6, 7, (height, width, 3)), 0, 255).astype(np.uint8)


def encode(image: np.ndarray | Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Encoded bytes of an array or a Pillow image."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def with_orientation(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG with an EXIF orientation tag."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(image, exif=exif, quality=95, subsampling=0)


def png_header(width: int, height: int) -> bytes:
    """A PNG that announces a size and holds almost nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def gif(frames: int, width: int = 120, height: int = 120) -> bytes:
    """An animated GIF whose first frame is grey 200."""
    pictures = [Image.new("L", (width, height), 200 if i == 0 else i % 199) for i in range(frames)]
    file = io.BytesIO()
    pictures[0].save(file, "GIF", save_all=True, append_images=pictures[1:])
    return file.getvalue()


BAD = {
    "truncated.jpg": (encode(photo())[:2000], "corrupt"),
    "header_bomb.png": (png_header(30000, 30000), "too_many_pixels"),
    "empty.jpg": (b"", "empty"),
    "page.jpg": (b"<!doctype html><html><body>404</body></html>", "not_image"),
    "noise.jpg": (bytes(range(256)) * 8, "not_image"),
    "cut_header.png": (png_header(200, 200)[:20], "corrupt"),
    "icon.png": (encode(photo(32, 32), "PNG"), "too_small"),
}


def dc_jpeg(sampling: tuple[tuple[int, int], ...], width: int = 160, height: int = 120) -> bytes:
    """A flat grey-green baseline JPEG with any sampling factors (horizontal, vertical) per component; no encoder here writes these.

    Each block holds its mean alone (ITU T.81, annex F), written with two Huffman codes: `0` for "no change", `10` for "8 bits follow".
    """
    dc, ac = bytes([1, 1, *[0] * 14, 0, 8]), bytes([1, *[0] * 15, 0])

    def segment(marker: int, body: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    parts = b"".join(bytes([i + 1, h << 4 | v, 0]) for i, (h, v) in enumerate(sampling))
    head = segment(0xDB, bytes(1) + bytes([1] * 64))
    head += segment(0xC0, struct.pack(">BHHB", 8, height, width, len(sampling)) + parts)
    head += segment(0xC4, b"\x00" + dc) + segment(0xC4, b"\x10" + ac)
    chosen = b"".join(bytes([i + 1, 0]) for i in range(len(sampling)))
    scan = segment(0xDA, bytes([len(sampling)]) + chosen + b"\x00\x3f\x00")
    across = -(-width // (8 * max(h for h, _ in sampling)))
    down = -(-height // (8 * max(v for _, v in sampling)))
    # Means of 24, -24 and 24 (as differences of 8 bits, in ones' complement where negative); then nothing changes.
    first = ["10" + "11000000" + "0", "10" + "00111111" + "0", "10" + "11000000" + "0"]
    bits = "".join(start + "00" * (h * v - 1) for start, (h, v) in zip(first, sampling, strict=True))
    bits += "00" * sum(h * v for h, v in sampling) * (across * down - 1)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    return b"\xff\xd8" + head + scan + data + b"\xff\xd9"
