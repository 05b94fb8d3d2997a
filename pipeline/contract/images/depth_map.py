"""A dense depth map as the 16-bit PNG that a sample stores."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def encode_depth_png(depth: NDArray[np.float32]) -> bytes:
    """A (S, S) finite map as 16-bit grey PNG: value = offset + scale * code, both in the file's text chunks.

    Raises ValueError for a map that is not finite or not two-dimensional.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    if depth.ndim != 2 or not np.isfinite(depth).all():
        raise ValueError(
            f"a depth map must be a finite (H, W) array, this is {depth.shape} with non-finite or more axes"
        )
    low, high = float(depth.min()), float(depth.max())
    scale = (high - low) / 65535 or 1.0
    codes = np.round((depth.astype(np.float64) - low) / scale).astype(np.uint16)
    info = PngInfo()
    info.add_text("offset", repr(low))
    info.add_text("scale", repr(scale))
    file = io.BytesIO()
    Image.fromarray(codes).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def decode_depth_png(blob: bytes) -> NDArray[np.float32]:
    """The inverse of `encode_depth_png`, exact to half a code. Raises ValueError without the text chunks."""
    from PIL import Image

    with Image.open(io.BytesIO(blob)) as image:
        text = dict(getattr(image, "text", {}))
        codes = np.asarray(image, np.float64)
    if "offset" not in text or "scale" not in text:
        raise ValueError("the PNG has no text chunks offset and scale: not a depth map of ours")
    return (float(text["offset"]) + float(text["scale"]) * codes).astype(np.float32)
