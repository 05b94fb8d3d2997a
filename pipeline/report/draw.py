"""Small pictures as data URIs, and labels as whole numbers that the page draws itself."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from handface.pipeline.contract.sample import FACE_KEYPOINTS, Crop, KeypointDepth

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
_MAX_PIXELS = 100_000_000  # a header that claims more is not opened for a thumbnail
_QUALITY = 78


def crop_thumbnail(jpeg: bytes, side: int) -> str:
    """A crop's JPEG bytes -> data URI of at most `side` px."""
    from PIL import Image

    with Image.open(BytesIO(jpeg), formats=("JPEG",)) as image:
        return _data_uri(image, side)


def depth_thumbnail(png: bytes, side: int) -> str:
    """A 16-bit depth PNG -> data URI in false colour, bright is high."""
    import cv2
    from PIL import Image

    with Image.open(BytesIO(png), formats=("PNG",)) as image:
        values = np.asarray(image, np.float32)  # (S, S)
    low, high = float(values.min()), float(values.max())
    grey = ((values - low) * (255 / max(high - low, 1))).astype(np.uint8)
    return _data_uri(Image.fromarray(cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)[..., ::-1]), side)


def file_thumbnail(path: Path, side: int) -> str | None:
    """A picture file -> data URI, upright; None if it is no picture that opens. Never raises for what the file holds."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                return None
            image.draft("RGB", (2 * side, 2 * side))  # JPEG: decode at a fraction of the size
            return _data_uri(ImageOps.exif_transpose(image), side)
    except Exception:  # decoders raise anything on broken files, and the page does without the picture
        return None


def points_permille(points: NDArray[Any], side: int) -> list[list[int]]:
    """(N, 2+) crop pixels, centres at integers -> whole thousandths of the crop's side, 0 at its left or top edge."""
    rounded = np.rint((points[:, :2] + 0.5) * (1000 / side)).astype(int).tolist()
    return [[int(x), int(y)] for x, y in rounded]


def nearness(depth: KeypointDepth) -> list[int]:
    """Keypoint depth -> 0 (farthest) to 100 (nearest) for each of the 89 points, -1 where it is not valid."""
    values, valid = depth.values[:, 0].astype(float), depth.values[:, 1] > 0
    near = values if depth.kind == "affine-inverse" else -values
    result = np.full(len(near), -1)
    parts = (slice(0, FACE_KEYPOINTS), slice(FACE_KEYPOINTS, None))
    for part in parts if depth.kind == "affine-per-part" else (slice(None),):
        chosen = near[part][valid[part]]
        if len(chosen):
            span = max(float(np.ptp(chosen)), 1e-9)
            result[part][valid[part]] = np.rint((chosen - chosen.min()) * (100 / span)).astype(int)
    return [int(value) for value in result]


def crop_corners(crop: Crop) -> list[list[float]]:
    """The crop's four corners in pixels of the upright original, measured from its top left edge."""
    low, high = -0.5, crop.size - 0.5
    corners = np.array([[low, low, 1], [high, low, 1], [high, high, 1], [low, high, 1]])
    original = corners @ np.array(crop.affine).T + 0.5
    return [[round(float(x), 1), round(float(y), 1)] for x, y, _ in original]


def _data_uri(image: Image.Image, side: int) -> str:
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = BytesIO()
    small.save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
