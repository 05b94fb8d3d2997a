"""Pictures for the demo that need no download: two portraits that installed packages carry, the same with a rendered hand
at, beside and in front of the face, and files that are bad on purpose, so that the funnel has something to say.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FINGERS = (0.45, -0.9)  # where the fingers point in the picture: up and to the right
TILT = 0.3  # radians; the fingertips lean towards the face
_MIDDLE_TIP = 12  # of the 21 hand points


class DemoInputError(RuntimeError):
    """The packages that carry the pictures are not installed."""


@dataclass(frozen=True)
class Portrait:
    """A frontal portrait. pixels: (H, W, 3) uint8 RGB.  cheek: x, y of the person's right one.  scale: pixels per metre."""

    pixels: NDArray[np.uint8]
    cheek: tuple[float, float]
    scale: float


def write_demo_input(folder: Path) -> list[Path]:
    """Write the pictures into `folder` and return their paths; the same bytes every time. Raises DemoInputError."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in demo_files():
        path = folder / name
        path.write_bytes(data)
        paths.append(path)
    return paths


def write_scene_pictures(shards: Path, folder: Path) -> list[Path]:
    """Write the pictures of synthetic scenes (shards of `handface synthesize`) into `folder`, named by kind and region."""
    from handface.pipeline.contract.shards import iter_samples

    paths = []
    for tar in sorted(shards.glob("*.tar")):
        for sample in iter_samples(str(tar)):
            source = sample.meta.source
            columns = source.columns
            path = folder / f"scene_{int(source.member or 0):03d}_{columns['kind']}_{columns['region']}.jpg"
            path.write_bytes(sample.image)
            paths.append(path)
    return sorted(paths)


def demo_files() -> Iterator[tuple[str, bytes]]:
    """(file name, content) of every input; the name says what the filter ought to make of it."""
    astronaut, hopper, coffee, cat = _photos()
    yield "plain_astronaut.jpg", _jpeg(astronaut.pixels)
    yield "plain_hopper.jpg", _jpeg(hopper.pixels)
    yield "plain_coffee.jpg", _jpeg(coffee)
    yield "plain_cat.jpg", _jpeg(cat)
    # each framed in its own way, for pictures that differ in a hand only are near duplicates
    touching = with_hand(astronaut)[:300, 60:360]
    yield "touch_astronaut_right.jpg", _jpeg(touching)
    yield "touch_astronaut_right_again.jpg", _jpeg(touching, quality=70)
    yield "touch_astronaut_left.jpg", _jpeg(with_hand(astronaut, flex=0.3)[:260, 330:90:-1])
    yield "touch_hopper_right.jpg", _jpeg(with_hand(hopper)[60:500, 20:440])
    yield "touch_hopper_left.jpg", _jpeg(with_hand(hopper, flex=0.3, shift=(0.01, 0.03))[:, ::-1])
    yield "far_astronaut.jpg", _jpeg(with_hand(astronaut, shift=(-0.13, 0.18))[:380, :420])
    yield "in_front_astronaut.jpg", _jpeg(with_hand(astronaut, size=2.2, shift=(0.02, 0.0))[:420, 20:400])
    yield "drawing.png", _drawing()
    whole = _jpeg(hopper.pixels)
    yield "cut_off.jpg", whole[: len(whole) // 3]
    yield "really_html.jpg", b"<!doctype html><title>404</title><p>This photo has moved."
    yield "empty.jpg", b""
    yield "bomb_30000x30000.png", png_header(30_000, 30_000)
    yield "tiny.jpg", _jpeg(hopper.pixels[::24, ::24])


def with_hand(
    portrait: Portrait, flex: float = 0.2, size: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> NDArray[np.uint8]:
    """The portrait with the embedded free hand's middle fingertip at the cheek, back of the hand to the camera.

    flex: of the finger joints, radians.  size: relative to a hand at the face's distance.  shift: metres right and down.
    Returns (H, W, 3) uint8.
    """
    import torch

    from handface.model.bodies import Convention, load_body
    from handface.model.render import Lighting, Material, Mesh, Texture, WeakPerspectiveCamera, render
    from handface.model.render.texture import to_linear, to_srgb

    body = load_body("free-hand", Convention(keypoints="mediapipe"))
    pose = np.zeros((15, 3), np.float32)
    pose[:12, 2] = flex  # all but the thumb
    with torch.inference_mode():
        out = body(pose=torch.from_numpy(pose.reshape(1, -1)))
    turn = _orientation()
    vertices, tip = out.vertices[0].numpy() @ turn.T, out.keypoints[0, _MIDDLE_TIP].numpy() @ turn.T
    scale = portrait.scale * size
    offset = np.array(portrait.cheek) + portrait.scale * np.array(shift) - scale * tip[:2]
    height, width = portrait.pixels.shape[:2]
    camera = WeakPerspectiveCamera(scale, (float(offset[0]), float(offset[1])), width, height)
    faces = np.concatenate([body.arrays.faces, body.arrays.caps]).astype(np.int64)
    background = to_linear(portrait.pixels)
    mesh = Mesh(vertices.astype(np.float32), faces, Material(Texture.plain(_skin(portrait, background))))
    picture = render([mesh], camera, Lighting(), background, supersample=3)
    return to_srgb(picture.colour)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds nothing: what a decompression bomb looks like from its header."""
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b""), b"IEND")
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def _photos() -> tuple[Portrait, Portrait, NDArray[np.uint8], NDArray[np.uint8]]:
    """Two portraits and two pictures without people. Where the cheeks are was read off the pictures once."""
    try:
        import skimage.data
        from matplotlib.cbook import get_sample_data
    except ImportError as error:
        raise DemoInputError(f"{error}; the demo's photos come with packages: pip install 'handface[demo]'") from error
    from PIL import Image

    with Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False))) as image:
        hopper = np.asarray(image.convert("RGB"))
    astronaut = Portrait(skimage.data.astronaut(), cheek=(196.0, 138.0), scale=600.0)
    return (
        astronaut,
        Portrait(hopper, cheek=(212.0, 268.0), scale=1180.0),
        skimage.data.coffee(),
        skimage.data.chelsea(),
    )


def _orientation() -> NDArray[np.float64]:
    """(3, 3) body axes (fingers -x, palm -y, thumb +z) -> camera axes: fingers along FINGERS, palm away, tips leaning in."""
    fingers = np.array([*FINGERS, 0.0]) / np.hypot(*FINGERS)
    forward = np.array([0.0, 0.0, 1.0])
    upright = np.stack([-fingers, -forward, np.cross(fingers, forward)], axis=1)
    x, y, z = np.cross(fingers, forward)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return (np.eye(3) + np.sin(TILT) * cross + (1 - np.cos(TILT)) * cross @ cross) @ upright


def _skin(portrait: Portrait, linear: NDArray[np.float32]) -> tuple[float, float, float]:
    """The cheek's colour, a little darker since the renderer's light adds to it; linear RGB."""
    x, y = (round(value) for value in portrait.cheek)
    reach = round(0.012 * portrait.scale)
    patch = linear[y - reach : y + reach, x : x + 2 * reach].reshape(-1, 3)
    red, green, blue = (0.75 * float(value) for value in np.median(patch, axis=0))
    return red, green, blue


def _drawing() -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (480, 480), (250, 240, 200))
    draw = ImageDraw.Draw(image)
    draw.ellipse((120, 80, 360, 380), fill=(255, 205, 160), outline=(40, 40, 40), width=6)
    for x in (190, 290):
        draw.ellipse((x - 15, 190, x + 15, 220), fill=(40, 40, 40))
    draw.arc((180, 230, 300, 330), 20, 160, fill=(180, 40, 40), width=8)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _jpeg(pixels: NDArray[np.uint8], quality: int = 92) -> bytes:
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, colorspace="RGB")
    return data
