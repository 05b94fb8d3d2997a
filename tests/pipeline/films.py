"""Films for tests, made by rewriting the index of a plain one: variable frame rates, turned and mirrored tracks."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

_NESTED = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")


def write_film(path: Path, frames: Sequence[np.ndarray], rate: float = 10) -> Path:
    """(H, W, 3) uint8 RGB frames as an MP4."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), rate, (width, height))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def numbered(count: int, width: int = 160, height: int = 120) -> list[np.ndarray]:
    """Frames that hold their number in nine black or white fields."""
    frames = []
    for number in range(count):
        frame = np.full((height, width, 3), 128, np.uint8)
        for bit in range(9):
            frame[height // 4 : -height // 4, bit * 16 + 8 : bit * 16 + 24] = 255 * (number >> bit & 1)
        frames.append(frame)
    return frames


def number_of(frame: np.ndarray) -> int:
    """The number that `numbered` put into a frame."""
    height = frame.shape[0]
    return sum(1 << bit for bit in range(9) if frame[height // 2, bit * 16 + 16].mean() > 128)


def with_durations(path: Path, seconds: Sequence[float]) -> Path:
    """The film with each frame shown as long as told (ISO 14496-12, 8.6.1.2): a variable frame rate."""

    def times(content: bytes) -> bytes:
        ticks = [round(one * 1000) for one in seconds]
        return struct.pack(">II", 0, len(ticks)) + b"".join(struct.pack(">II", 1, tick) for tick in ticks)

    def scale(content: bytes) -> bytes:
        return content[:12] + struct.pack(">II", 1000, round(sum(seconds) * 1000)) + content[20:]

    return _rewrite(path, {b"stts": times, b"mdhd": scale})


def with_matrix(path: Path, signs: tuple[int, int, int, int]) -> Path:
    """The film with a track matrix (a, b, c, d): (x, y) is shown at (a x + c y, b x + d y)."""
    a, b, c, d = (sign << 16 for sign in signs)

    def matrix(content: bytes) -> bytes:
        return content[:40] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + content[76:]

    return _rewrite(path, {b"tkhd": matrix})


def _rewrite(path: Path, changes: dict) -> Path:
    data = path.read_bytes()
    assert data.index(b"moov") > data.index(b"mdat"), "pictures must lie before the index, or their offsets would move"
    path.write_bytes(_boxes(data, changes))
    return path


def _boxes(data: bytes, changes: dict) -> bytes:
    kept, at = b"", 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + size]
        if kind in _NESTED:
            content = _boxes(content, changes)
        # An edit list would cut the film to its old length.
        name = b"free" if kind == b"elst" else kind
        content = changes[kind](content) if kind in changes else content
        kept += struct.pack(">I4s", len(content) + 8, name) + content
        at += size
    return kept
