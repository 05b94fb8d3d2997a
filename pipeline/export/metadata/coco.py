"""COCO keypoints beside the shards, in the folder layout that annotation tools read: `<split>/data/*.jpg`, `<split>/labels.json`."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handface.pipeline.contract.sample import FACE_KEYPOINTS, HAND_KEYPOINTS, Sample
from handface.pipeline.contract.shards import iter_samples
from handface.pipeline.contract.storage import Folder
from handface.pipeline.export.catalogue import ExportError
from handface.pipeline.export.manifest import read_release

log = logging.getLogger(__name__)

# where COCO folders of a release lie, relative to it; not part of the release
NOTED = ".handface.coco.json"
_PICTURES, _LABELS = "data", "labels.json"
_SEEN, _GUESSED, _UNKNOWN = 2, 1, 0  # COCO's visibility flags
CATEGORIES = (
    {"id": 1, "name": "face", "supercategory": "person", "keypoints": [f"face_{k}" for k in range(FACE_KEYPOINTS)]},
    {
        "id": 2,
        "name": "left_hand",
        "supercategory": "person",
        "keypoints": [f"hand_{k}" for k in range(HAND_KEYPOINTS)],
    },
    {
        "id": 3,
        "name": "right_hand",
        "supercategory": "person",
        "keypoints": [f"hand_{k}" for k in range(HAND_KEYPOINTS)],
    },
)


def write_coco(release: str, output: str) -> None:
    """Write every sample of a release as COCO annotations, one per face and hand; pictures it no longer holds are removed.

    The release remembers the folder, so that a takedown finds the pictures. Raises ExportError if there is no release.
    """
    folder = Folder(release)
    made = read_release(folder)
    if made is None:
        raise ExportError(f"{release}: holds no release")
    _remember(folder, Path(output))
    for split in made.samples:
        shards = [name for name, info in made.files.items() if info.samples and info.split == split]
        target = Path(output) / split
        if not shards and not target.exists():
            continue
        (target / _PICTURES).mkdir(parents=True, exist_ok=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for shard in shards:
            for sample in iter_samples(f"{release.rstrip('/')}/{shard}"):
                (target / _PICTURES / f"{sample.key}.jpg").write_bytes(sample.image)
                images.append(_image(sample, len(images) + 1))
                annotations += _annotations(sample, len(images), len(annotations) + 1)
        _write_labels(target, {"categories": CATEGORIES, "images": images, "annotations": annotations})
        _remove_unlisted(target, {image["file_name"] for image in images})


def _write_labels(target: Path, document: dict[str, Any]) -> None:
    Folder(str(target)).write(_LABELS, json.dumps(document).encode())


def _remove_unlisted(target: Path, listed: set[str]) -> None:
    for path in (target / _PICTURES).glob("*.jpg"):
        if path.name not in listed:
            path.unlink()


def remove_pictures(output: str, keys: set[str]) -> int:
    """Take samples out of a folder that `write_coco` wrote. Returns how many pictures were there."""
    removed = 0
    for labels in sorted(Path(output).glob(f"*/{_LABELS}")):
        document = json.loads(labels.read_bytes())
        gone = {image["id"] for image in document["images"] if image["file_name"].removesuffix(".jpg") in keys}
        if gone:
            document["images"] = [image for image in document["images"] if image["id"] not in gone]
            document["annotations"] = [one for one in document["annotations"] if one["image_id"] not in gone]
            _write_labels(labels.parent, document)
    for picture in sorted(Path(output).glob(f"*/{_PICTURES}/*.jpg")):
        if picture.stem in keys:
            picture.unlink()
            removed += 1
    return removed


def _remember(folder: Folder, output: Path) -> None:
    """Note a COCO folder that lies in the release's folder or beside it; others cannot be named without telling local paths."""
    if folder.local:
        place = os.path.relpath(output.resolve(), Path(folder.path()).resolve())
        if not place.startswith("../.."):
            known = set(_remembered(folder)) | {place}
            folder.write(NOTED, json.dumps(sorted(known)).encode())
            return
    log.warning("%s: give this folder to --coco of later takedowns; the release does not remember it", output)


def _remembered(folder: Folder) -> list[str]:
    return [str(place) for place in json.loads(folder.read(NOTED))] if folder.exists(NOTED) else []


def coco_folders(folder: Folder) -> list[str]:
    """Folders that `write_coco` wrote of a release and that are still there."""
    places = [Path(folder.path()) / place for place in _remembered(folder)] if folder.local else []
    return [str(place.resolve()) for place in places if place.is_dir()]


def _image(sample: Sample, number: int) -> dict[str, Any]:
    size = sample.meta.crop.size
    return {
        "id": number,
        "file_name": f"{sample.key}.jpg",
        "width": size,
        "height": size,
        "coco_url": sample.meta.source.uri,
    }


def _annotations(sample: Sample, image: int, first: int) -> list[dict[str, Any]]:
    labels = sample.labels
    parts: list[tuple[int, NDArray[np.float32]]] = []
    if labels.face_keypoints_2d is not None:
        parts.append((1, labels.face_keypoints_2d))
    if labels.hand_keypoints_2d is not None and labels.hand_side is not None:
        parts += [
            (2 + int(side), points) for side, points in zip(labels.hand_side, labels.hand_keypoints_2d, strict=True)
        ]
    return [_annotation(points, category, image, first + k) for k, (category, points) in enumerate(parts)]


def _annotation(points: NDArray[np.float32], category: int, image: int, number: int) -> dict[str, Any]:
    """COCO counts pixels from their corners: half a pixel more than centres at integers."""
    known = points[:, 2] > 0
    flags = np.where(points[:, 2] >= 0.5, _SEEN, np.where(known, _GUESSED, _UNKNOWN))
    corners = np.where(known[:, None], points[:, :2] + 0.5, 0)
    low, high = (corners[known].min(0), corners[known].max(0)) if known.any() else (np.zeros(2), np.zeros(2))
    box = [*low.tolist(), *(high - low).tolist()]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "keypoints": np.column_stack([corners.round(2), flags]).ravel().tolist(),
        "num_keypoints": int(known.sum()),
        "bbox": box,
        "area": box[2] * box[3],
        "iscrowd": 0,
    }
