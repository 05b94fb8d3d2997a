"""A synthetic studio in Decaf's layout: several people, each filmed by several still cameras, written subject by subject.

A subject's files are made in a folder aside and moved into place when all are whole; its manifest comes last. Any number of
workers gives the same files.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.decaf.layout import Split
from handface.pipeline.decaf.writer import SequenceWriter, write_assets
from handface.pipeline.synthesis.person.bodies import free_head
from handface.pipeline.synthesis.person.identity import SyntheticPerson, draw_person
from handface.pipeline.synthesis.scene.scene import NoSceneError
from handface.pipeline.synthesis.studio.dataset import SHORTEST_TAKE, VERSION, StudioConfig
from handface.pipeline.synthesis.studio.motion import MovingScene, draw_take
from handface.pipeline.synthesis.studio.studio import Studio

TEST_SUBJECTS = (1, 3, 6)  # of every eight, as Decaf splits S1 to S8
_MANIFESTS, _ASIDE = "synthesis", ".writing"
_BACKGROUNDS, _BACKGROUND_SIZE = 4, 480
_TRIES = 5  # per take, each of many attempts


def subject_name(number: int) -> str:
    """S1, S2 and so on."""
    return f"S{number}"


def split_of(number: int, subjects: int) -> Split:
    """Which half a subject belongs to. A dataset of one subject has only train/."""
    return "test" if subjects > 1 and (number - 1) % 8 + 1 in TEST_SUBJECTS else "train"


def write_subject(root: Path, config: StudioConfig, number: int) -> int:
    """Film one subject and put its files in place; returns the frames. Raises NoSceneError, BackgroundError, DecafError."""
    name, split = subject_name(number), split_of(number, config.capture.subjects)
    rng = np.random.default_rng([config.seed, number, 0])
    person = draw_person(rng, "cheek")
    studio = Studio(config, number, person)
    aside = root / _ASIDE / name
    shutil.rmtree(aside, ignore_errors=True)
    with SequenceWriter(aside, split, name, studio.cameras, mirror_correspondences()) as writer:
        frame = 0
        for take, length in enumerate(take_lengths(config.frames_of(number), config.capture.take_frames)):
            if take:
                writer.cut()
            for moment in _take([config.seed, number, 1, take], person, length):
                shot = studio.shoot(moment, frame)
                writer.add(shot.pose, shot.views, moment.rigid, shot.hand_keypoints)
                frame += 1
    _publish(root, aside, config, name, frame)
    return frame


def _take(seed: list[int], person: SyntheticPerson, frames: int) -> Iterator[MovingScene]:
    """A take; should one find no acceptable motion, which is rare, another is drawn."""
    for again in range(_TRIES):
        try:
            return draw_take(np.random.default_rng([*seed, again]), person, frames)
        except NoSceneError:
            continue
    raise NoSceneError(f"no take of {frames} frames for seed {seed}; another --seed will do")


def take_lengths(frames: int, about: int) -> list[int]:
    """Lengths of the takes that make `frames`: two at least where there is room, so that every subject has a cut."""
    takes = max(round(frames / about), 2 if frames >= 2 * SHORTEST_TAKE else 1)
    return [len(part) for part in np.array_split(np.arange(frames), takes)]


def _publish(root: Path, aside: Path, config: StudioConfig, name: str, frames: int) -> None:
    """Move a subject's whole files into place one by one, each atomically, then say so in its manifest."""
    digests = {}
    for path in sorted(p for p in aside.rglob("*") if p.is_file()):
        place = root / path.relative_to(aside)
        with path.open("rb") as data:
            digests[str(path.relative_to(aside))] = hashlib.file_digest(data, "sha256").hexdigest()
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    manifest = {"config": config.as_dict() | {"version": VERSION}, "frames": frames, "sha256": digests}
    written = aside / f"{name}.json"
    written.write_text(json.dumps(manifest, indent=1, sort_keys=True))
    (root / _MANIFESTS).mkdir(exist_ok=True)
    written.replace(root / _MANIFESTS / written.name)
    shutil.rmtree(aside)


def write_shared(root: Path, config: StudioConfig) -> None:
    """assets/: what all subjects share. Rewritten the same every time."""
    head = free_head().arrays
    neck = np.flatnonzero(head.masks["neck"] > 0.5)
    assert head.stiffness is not None
    write_assets(root, mirror_correspondences(), neck, _backgrounds(config), head.stiffness)


@cache
def mirror_correspondences() -> NDArray[np.int64]:
    """(V,) for each head vertex the one nearest to its mirror image."""
    from scipy.spatial import cKDTree

    template = free_head().arrays.template
    _, nearest = cKDTree(template).query(template * np.array([-1, 1, 1]))
    return np.asarray(nearest, np.int64)


def _backgrounds(config: StudioConfig) -> dict[str, bytes]:
    """Pictures to put behind the people instead, as a trainer's augmentation does."""
    from PIL import Image

    from handface.model.render.texture import to_srgb
    from handface.pipeline.synthesis.scene.background import draw_background

    made = {}
    for k in range(_BACKGROUNDS):
        rng = np.random.default_rng([config.seed, 0, k])
        buffer = BytesIO()
        Image.fromarray(to_srgb(draw_background(rng, _BACKGROUND_SIZE))).save(buffer, "JPEG", quality=90)
        made[f"{k:02d}.jpg"] = buffer.getvalue()
    return made
