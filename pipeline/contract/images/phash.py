"""A 64-bit perceptual hash: the signs of the low frequencies of the grey image, stable under resizing and re-encoding."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIDE, _LOW = 32, 8
_FLAT = 3.0  # standard deviation in grey levels below which signs are noise


def perceptual_hash(image: NDArray[np.uint8]) -> int:
    """(H, W, 3) uint8 RGB -> 64-bit hash: which of the 8x8 lowest DCT terms (without the mean) exceed their median.

    The rule of Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010. 0 for a flat image,
    whose terms are noise: it says nothing and must match nothing.
    """
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if small.std() < _FLAT:
        return 0
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean brightness
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hash_hex(value: int) -> str:
    """16 hex digits."""
    return f"{value:016x}"


def distance(a: int, b: int) -> int:
    """Differing bits, 0 to 64; 64 where either image was flat."""
    return (a ^ b).bit_count() if a and b else 64


def parse_hash(value: str | bytes | int) -> int:
    """A hash as lists hold it: 16 hex digits in any case, 8 bytes, or a whole number, signed or not. Raises ValueError."""
    if isinstance(value, bytes) and len(value) == 8:
        return int.from_bytes(value, "big")
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value % 2**64
    try:
        if isinstance(value, str) and len(value.strip()) == 16:
            return int(value, 16)
    except ValueError:
        pass
    raise ValueError(f"{value!r} is no perceptual hash: expected 16 hex digits")
