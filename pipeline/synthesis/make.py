"""One scene as a finished sample, and the pipeline stage that makes them."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.config import BaseConfig, Count, JpegQuality
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.sample import MAX_CROP, Crop, Sample, SampleMeta, Source, sample_key
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage
from handface.pipeline.synthesis.scene.domain import DOMAINS, DomainName
from handface.pipeline.synthesis.scene.scene import NoSceneError, Scene, SceneConfig, draw_scene

if TYPE_CHECKING:
    from handface.model.render import Picture
    from handface.pipeline.synthesis.person.dress import DressedScene
    from handface.pipeline.synthesis.scene.view import SceneView

LICENCE, AUTHOR = "CC0-1.0", "handface synthesis"
SCHEME = "synthetic"
VERSION = 3  # raise it when the same seed gives other pictures


@dataclass(frozen=True)
class PictureConfig:
    """What pictures look like and what is stored with them."""

    supersample: Count = 2
    """Samples along each side of a pixel, at outlines."""
    backgrounds: str | None = None
    """Folder of pictures to put behind the people; drawn backdrops if not given."""
    jpeg_quality: JpegQuality = 92
    """Of the stored picture, 4:4:4 sampling."""
    depth_maps: bool = True
    """Whether the exact depth is stored as a 16-bit PNG, 0 where there is no surface; no-depth-maps leaves it out."""
    domain: DomainName = "open"
    """open: all skin tones, lights, backdrops and cameras; studio: few, evenly lit before a green screen, as in Decaf."""


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig(BaseConfig):
    """Everything that, with the scenes' ids, decides the bytes of the samples."""

    seed: int = 0
    """Other seeds give other people and scenes."""
    size: int = 256
    """Side of the pictures in pixels, 64 to 512."""
    unit_size: int = 64
    """Scenes per work unit, hence per part."""
    scenes: SceneConfig = field(default_factory=SceneConfig)
    pictures: PictureConfig = field(default_factory=PictureConfig)

    def __post_init__(self) -> None:
        if not 64 <= self.size <= MAX_CROP:
            raise ValueError(f"size is {self.size}; pictures are 64 to {MAX_CROP} pixels")
        if self.unit_size < 1:
            raise ValueError(f"unit_size is {self.unit_size}; at least 1 is expected")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; at least 0 is expected")


@dataclass(frozen=True)
class RenderedScene:
    """A scene with all that was drawn for its picture. image: (S, S, 3) uint8.  seconds: by step."""

    scene: Scene
    view: SceneView
    dressed: DressedScene
    picture: Picture
    image: NDArray[np.uint8]
    seconds: dict[str, float] = field(default_factory=dict)


def scene_rng(seed: int, scene_id: int) -> np.random.Generator:
    """The one generator of a scene; independent for different (seed, scene id)."""
    return np.random.default_rng([seed, scene_id])


def list_scenes(config: SynthesisConfig, count: int) -> Iterator[SourceItem]:
    """The inputs of a run: scenes 0 .. count - 1 of the seed."""
    for scene_id in range(count):
        yield SourceItem(f"{SCHEME}:{config.seed}", str(scene_id))


def render_scene(
    scene_id: int, config: SynthesisConfig, clock: Callable[[], float] = time.perf_counter
) -> RenderedScene:
    """Draw and render a scene, timing its steps with `clock`. Raises NoSceneError if no acceptable one is found, BackgroundError for a bad folder."""
    from handface.model.render import render
    from handface.model.render.texture import to_srgb
    from handface.pipeline.synthesis.person.dress import dress
    from handface.pipeline.synthesis.scene.background import draw_background
    from handface.pipeline.synthesis.scene.view import draw_light, draw_view

    rng = scene_rng(config.seed, scene_id)
    laps, pictures, size = _Laps(clock), config.pictures, config.size
    scene = draw_scene(rng, config.scenes)
    laps.lap("geometry")
    domain = DOMAINS[pictures.domain]
    view = draw_view(rng, scene, size, domain)
    dressed = dress(rng, scene, view, domain, texture_size=512 if size <= 320 else 1024)
    lighting = draw_light(rng, view, domain)
    background = draw_background(rng, size, domain, pictures.backgrounds)
    laps.lap("textures")
    picture = render(dressed.meshes, view.camera, lighting, background, supersample=pictures.supersample)
    noise = rng.normal(0, rng.uniform(0.002, 0.012), (size, size, 1)).astype(np.float32)
    image = to_srgb(picture.colour * np.float32(rng.uniform(0.85, 1.2)) * (1 + noise) + noise * np.float32(0.3))
    laps.lap("render")
    return RenderedScene(scene, view, dressed, picture, image, laps.seconds)


def make_sample(scene_id: int, config: SynthesisConfig = SynthesisConfig()) -> Sample:
    """A scene as a sample. The same arguments give the same bytes. Raises NoSceneError."""
    return pack_scene(render_scene(scene_id, config), scene_id, config)


def pack_scene(made: RenderedScene, scene_id: int, config: SynthesisConfig) -> Sample:
    """Label and encode a rendered scene."""
    import simplejpeg

    from handface.pipeline.synthesis.scene.labels import scene_keypoints, scene_labels

    points = scene_keypoints(made.scene, made.view, made.picture, made.dressed)
    labels = scene_labels(made.scene, made.view, points)
    image = simplejpeg.encode_jpeg(
        np.ascontiguousarray(made.image), config.pictures.jpeg_quality, colorspace="RGB", colorsubsampling="444"
    )
    depth = _depth_png(made.picture) if config.pictures.depth_maps else None
    return Sample(image, labels, _meta(made, image, config.seed, scene_id), depth)


def _meta(made: RenderedScene, image: bytes, seed: int, scene_id: int) -> SampleMeta:
    from handface.pipeline.contract.images.phash import hash_hex, perceptual_hash

    scene, size = made.scene, made.image.shape[0]
    columns = {
        "kind": scene.kind,
        "region": scene.region,
        "grip": scene.grip,
        "skin_tone": f"{made.dressed.complexion.tone:.1f}",
    }
    if scene.second is not None:
        columns |= {"second_region": scene.second.region, "second_grip": scene.second.grip}
    source = Source(
        uri=f"{SCHEME}:{seed}",
        member=str(scene_id),
        sha256=hashlib.sha256(image).hexdigest(),
        phash=hash_hex(perceptual_hash(made.image)),
        licence=LICENCE,
        author=AUTHOR,
        columns=columns,
    )
    whole = Crop(((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)), size, size, size)
    return SampleMeta(sample_key(image), source, whole, None, ())


def _depth_png(picture: Picture) -> bytes:
    from handface.pipeline.contract.images.depth_map import encode_depth_png

    depth = picture.buffers.depth
    return encode_depth_png(np.where(np.isfinite(depth), depth, np.float32(0)))


class SynthesizeStage(Stage):
    """Makes the sample of each record, whose item's member is the scene id."""

    name = "synthesize"
    version = VERSION
    guarded = False  # scenes are our own: an error is a fault here or a bad folder of backgrounds
    writes = ("sample",)

    def __init__(self, config: SynthesisConfig) -> None:
        self.config = config

    def setup(self) -> None:
        """Make what all scenes share: bodies, skin compliance, atlases."""
        from handface.pipeline.synthesis.touch.deform import face_flesh

        face_flesh()

    def __call__(self, batch: Sequence[Record]) -> None:
        """Fill record.sample, or reject the rare scene that finds no acceptable touch."""
        for record in batch:
            try:
                record.sample = make_sample(int(record.item.member or 0), self.config)
            except NoSceneError as error:
                record.reject(Reason.NO_SCENE, str(error))


class _Laps:
    """Seconds by step."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.seconds = clock, dict[str, float]()
        self._start = clock()

    def lap(self, step: str) -> None:
        now = self.clock()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._start
        self._start = now
