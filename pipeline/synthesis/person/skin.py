"""Procedural skin: tone, blotches, lips, brows, lashes, stubble, cropped hair, nails; painted into the bodies' own textures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from handface.model.render import Texture, vertex_normals
from handface.pipeline.synthesis.person.atlas import Atlas, make_atlas
from handface.pipeline.synthesis.person.bodies import SceneBody, free_hand, free_head
from handface.pipeline.synthesis.person.noise import fractal_noise, smooth_noise

Colour = NDArray[np.float32]
# Six tones from pale to deep, linear light, after Fitzpatrick's scale.
TONES = np.array(
    [
        [0.77, 0.51, 0.40],
        [0.66, 0.41, 0.29],
        [0.54, 0.31, 0.205],
        [0.37, 0.20, 0.115],
        [0.212, 0.104, 0.058],
        [0.104, 0.047, 0.028],
    ]
)
HAIR = np.array(
    [[0.012, 0.009, 0.008], [0.035, 0.02, 0.012], [0.09, 0.05, 0.025], [0.24, 0.15, 0.07], [0.3, 0.29, 0.28]]
)


@dataclass(frozen=True)
class Complexion:
    """What a person's skin and hair look like. tone: 0 pale to 5 deep.  hair: (3,) linear RGB.  Others: 0 none to 1 strong."""

    tone: float
    hair: tuple[float, float, float]
    redness: float
    blotches: float
    brow_thickness: float
    brow_height: float  # metres above the usual place
    stubble: float
    hairline: float  # metres above the usual place; 0.2 for a bald head
    lips: float

    @property
    def base(self) -> Colour:
        """The skin's colour, (3,) linear light."""
        low = int(np.clip(self.tone, 0, len(TONES) - 2))
        mix = TONES[low] * (1 - (self.tone - low)) + TONES[low + 1] * (self.tone - low)
        return mix.astype(np.float32)


def draw_complexion(rng: np.random.Generator, tones: tuple[float, float] = (0.0, 5.0)) -> Complexion:
    """A random complexion, spread over a range of skin tones, 0 pale to 5 deep."""
    tone = float(rng.uniform(*tones))
    dark = HAIR[rng.choice(len(HAIR), p=[0.35, 0.3, 0.17, 0.08, 0.1] if tone < 2.5 else [0.8, 0.14, 0, 0, 0.06])]
    return Complexion(
        tone=tone,
        hair=tuple(float(c) for c in dark * rng.uniform(0.7, 1.2)),  # type: ignore[arg-type]
        redness=float(rng.uniform(0.2, 1)),
        blotches=float(rng.uniform(0.3, 1)),
        brow_thickness=float(rng.uniform(0.7, 1.5)),
        brow_height=float(rng.normal(0, 0.001)),
        stubble=float(rng.choice([0.0, 0.0, 0.0, 0.3, 0.6, 0.9])),
        hairline=float(rng.normal(0, 0.007)) if rng.random() < 0.93 else 0.2,
        lips=float(rng.uniform(0.4, 1)),
    )


@dataclass(frozen=True)
class _HeadMaps:
    """Fixed fields over the head's texels, all (H, W)."""

    atlas: Atlas
    lips: NDArray[np.float32]
    eyelids: NDArray[np.float32]
    rim: NDArray[np.float32]
    red: NDArray[np.float32]
    brow_along: NDArray[np.float32]  # 0 at the inner end to 1 at the outer
    brow_above: NDArray[np.float32]  # metres over the brow's middle line
    hairline: NDArray[np.float32]  # metres over the usual hairline
    beard: NDArray[np.float32]


@cache
def head_maps(height: int, width: int) -> _HeadMaps:
    """Bake the head's maps for a texture of (height, width); a second or less, once per process."""
    head = free_head()
    arrays, skin = head.arrays, head.skin_faces
    assert arrays.uv is not None and arrays.face_uv is not None
    atlas = make_atlas(head.faces[skin], arrays.uv, arrays.face_uv[skin], height, width)
    place = atlas.bake(arrays.template)
    normal = atlas.bake(vertex_normals(arrays.template, head.faces))
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    front = normal[..., 2] > -0.2
    eye = arrays.joint_template[3]
    landmarks = head.template_keypoints
    nose, chin, mouth = landmarks[30], landmarks[8], landmarks[[51, 57]].mean(0)
    cheek = _blob(x - 0.040, 0.017) * _blob(y - (eye[1] + nose[1]) / 2 + 0.012, 0.016) * front
    tip = _blob(x, 0.013) * _blob(y - nose[1], 0.011) * (z > nose[2] - 0.03)
    ears = atlas.bake(arrays.masks["ears"])
    red = np.clip(0.8 * cheek + 0.8 * tip + 0.5 * ears, 0, 1)
    along, above = _brow_coordinates(x, y, landmarks[22:27])
    beard = np.clip((mouth[1] + 0.024 - y) / 0.012, 0, 1) * np.clip((y - chin[1] + 0.03) / 0.02, 0, 1)
    beard *= np.clip((z - eye[2] + 0.075) / 0.02, 0, 1) * np.clip((0.062 - x) / 0.01 + (y < mouth[1] - 0.01), 0, 1)
    return _HeadMaps(
        atlas=atlas,
        lips=atlas.bake(arrays.masks["lips"]),
        eyelids=atlas.bake(arrays.masks["eyelids"]),
        rim=atlas.bake(_lid_rim(head)),
        red=red.astype(np.float32),
        brow_along=along,
        brow_above=np.where(front & (z > eye[2] - 0.05), above, 1).astype(np.float32),
        hairline=_over_hairline(x, y, z, eye).astype(np.float32),
        beard=(beard * front).astype(np.float32),
    )


def paint_head(complexion: Complexion, rng: np.random.Generator, height: int, width: int) -> Texture:
    """The head's texture, (height, width, 3) linear light."""
    maps, base = head_maps(height, width), complexion.base
    fine = height / 1024  # noise is given in texels of a full-size texture
    image = _mottled(base, complexion, rng, height, width, fine)
    red = base * np.array([1.02, 0.70, 0.66], np.float32)
    _mix(image, maps.red * np.float32(0.45 * complexion.redness), red)
    _mix(image, maps.eyelids * np.float32(0.35), base * np.array([0.72, 0.55, 0.52], np.float32))
    lip = base * np.array([0.92, 0.50, 0.50], np.float32)
    _mix(image, maps.lips * np.float32(0.4 + 0.5 * complexion.lips), lip)
    hair = np.array(complexion.hair, np.float32)
    streaks = 0.6 + 0.4 * np.clip(smooth_noise(rng, height, width, max(1.2 * fine, 0.6)) * 0.5 + 0.5, 0, 1)
    if complexion.stubble:
        shadow = maps.beard * (1 - maps.lips) * streaks * np.float32(0.55 * complexion.stubble)
        _mix(image, shadow, hair + base * np.float32(0.12))
    _mix(image, maps.rim * np.float32(0.8), hair * np.float32(0.6))
    thickness = 0.0040 * complexion.brow_thickness * (1 - 0.5 * np.clip(maps.brow_along, 0, 1))
    brow = np.exp(-(((maps.brow_above - np.float32(complexion.brow_height)) / thickness) ** 4))
    brow *= np.clip((maps.brow_along + 0.04) / 0.06, 0, 1) * np.clip((1.04 - maps.brow_along) / 0.10, 0, 1)
    _mix(image, brow * streaks * np.float32(0.9), hair)
    fringe = fractal_noise(rng, height, width, ((7 * fine, 0.003), (20 * fine, 0.003)))
    scalp = np.clip((maps.hairline - np.float32(complexion.hairline) + fringe) / 0.010, 0, 1)
    _mix(image, scalp * (0.80 + 0.18 * streaks), hair * np.float32(1.2))
    return Texture(image)


@cache
def hand_atlas(height: int, width: int) -> tuple[Atlas, NDArray[np.float32], NDArray[np.float32]]:
    """The hand's atlas, its nails (H, W) and its palm (H, W)."""
    hand = free_hand()
    arrays = hand.arrays
    assert arrays.uv is not None and arrays.face_uv is not None
    atlas = make_atlas(hand.faces, arrays.uv, arrays.face_uv, height, width)
    down = -vertex_normals(arrays.template, hand.faces)[:, 1]  # the palm looks to -y
    return atlas, atlas.bake(arrays.masks["nails"]), np.clip(atlas.bake(down) * 1.5, 0, 1)


def paint_hand(complexion: Complexion, rng: np.random.Generator, height: int, width: int) -> Texture:
    """The hand's texture, (height, width, 3) linear light; palms and nails are paler than the back."""
    _, nails, palm = hand_atlas(height, width)
    base, fine = complexion.base, height / 1024 * 2
    image = _mottled(base, complexion, rng, height, width, fine)
    pale = np.array([0.72, 0.43, 0.33], np.float32)
    deep = np.float32(np.clip((complexion.tone - 2) / 3, 0, 1) * 0.4)
    _mix(image, palm * np.float32(0.35), base * np.array([1.06, 0.86, 0.84], np.float32))
    _mix(image, palm * deep, pale * np.float32(0.8))
    _mix(image, np.clip(nails * 1.6 - 0.4, 0, 1) * np.float32(0.7), base * np.float32(0.55) + pale * np.float32(0.45))
    return Texture(image)


def paint_limb(complexion: Complexion, rng: np.random.Generator, size: int = 128) -> Texture:
    """Plain skin for neck and forearm, (size, size, 3) linear light."""
    return Texture(_mottled(complexion.base, complexion, rng, size, size, 0.5))


def _mottled(
    base: Colour, complexion: Complexion, rng: np.random.Generator, height: int, width: int, fine: float
) -> NDArray[np.float32]:
    """Skin of one colour with blotches, (H, W, 3): brightness varies at all scales, redness slowly."""
    layers = ((90.0, 0.03), (30.0, 0.03), (8.0, 0.025), (2.0, 0.025), (0.9, 0.03))
    scaled = tuple((sigma * fine, amplitude) for sigma, amplitude in layers if sigma * fine > 0.4)
    light = np.float32(complexion.blotches) * fractal_noise(rng, height, width, scaled)
    hue = np.float32(complexion.blotches) * fractal_noise(rng, height, width, ((50 * fine, 0.025), (12 * fine, 0.025)))
    image = np.empty((height, width, 3), np.float32)
    image[..., 0] = base[0] * np.exp(light + np.float32(0.2) * hue)
    image[..., 1] = base[1] * np.exp(light + hue)
    image[..., 2] = base[2] * np.exp(light + np.float32(1.1) * hue)
    return image


def _mix(image: NDArray[np.float32], amount: NDArray, colour: Colour) -> None:
    """Blend a colour in where `amount` (H, W) is not zero, in place."""
    rows = np.flatnonzero((amount > 0.004).any(1))
    columns = np.flatnonzero((amount > 0.004).any(0))
    if not len(rows):
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    share = amount[window].astype(np.float32)[..., None]
    image[window] += share * (colour - image[window])


def _blob(distance: NDArray, size: float) -> NDArray:
    return np.exp(-((distance / size) ** 2))


def _brow_coordinates(x: NDArray, y: NDArray, brow: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Along (0..1) and metres above the line through the five brow landmarks (5, 3), for |x| and y of texels."""
    bx = np.abs(brow[:, 0])
    order = np.argsort(bx)
    curve = np.polyfit(bx[order], brow[order, 1], 2)
    along = (x - bx.min()) / (bx.max() - bx.min())
    return along.astype(np.float32), (y - np.polyval(curve, x)).astype(np.float32)


def _over_hairline(x: NDArray, y: NDArray, z: NDArray, eye: NDArray) -> NDArray:
    """Metres by which a point lies inside the hair: above the forehead, beside the temples, behind the ears down to the nape."""
    temple = 0.45 * np.clip(x - 0.045, 0, 1)
    top = y - (eye[1] + 0.062 - temple)
    back = np.minimum(eye[2] - 0.088 - z, y - (eye[1] - 0.055))
    side = np.minimum.reduce([eye[2] - 0.045 - z, y - (eye[1] - 0.005), x - 0.05])
    return np.maximum.reduce([top, back, side])


def _lid_rim(head: SceneBody) -> NDArray[np.float32]:
    """(V,) 1 on the edge between the lids' outside and the eye's cavity, where lashes grow."""
    arrays = head.arrays
    cavity = arrays.masks["cavity"] > 0.5
    eyes = arrays.joint_template[3:5]
    from_eye = np.linalg.norm(arrays.template[:, None] - eyes, axis=-1).min(1)
    mixed = cavity[head.faces].any(1) & ~cavity[head.faces].all(1)
    rim = np.zeros(len(arrays.template), np.float32)
    rim[np.unique(head.faces[mixed])] = 1
    rim[(from_eye > 0.03) | cavity] = 0
    return rim
