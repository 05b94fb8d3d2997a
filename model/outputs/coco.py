"""Predicted keypoints as a COCO keypoints file: 68 points of the face and 21 of the hand, of every person."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from handface.model.bodies.names import TIPS
from handface.model.prediction.prediction import Person, Prediction

_JOINTS = ("mcp", "pip", "dip", "tip")
NAMES = (
    *(f"face_{k}" for k in range(68)),
    "wrist",
    *(
        f"{finger}_{joint}"
        for finger in TIPS
        for joint in (("cmc", "mcp", "ip", "tip") if finger == "thumb" else _JOINTS)
    ),
)
# Edges between keypoints numbered from 1, as COCO wants them: each finger from the wrist to its tip.
_WRIST = 69
SKELETON = [
    [_WRIST if step == 0 else _WRIST + 4 * finger + step, _WRIST + 4 * finger + step + 1]
    for finger in range(len(TIPS))
    for step in range(4)
]


class CocoFile:
    """A COCO keypoints file that grows photo by photo."""

    def __init__(self) -> None:
        category = {
            "id": 1,
            "name": "person",
            "supercategory": "person",
            "keypoints": list(NAMES),
            "skeleton": SKELETON,
        }
        info = {"description": "handface: projected keypoints of predicted meshes", "trained": True}
        self.record: dict[str, Any] = {"info": info, "images": [], "annotations": [], "categories": [category]}

    def add(self, name: str, prediction: Prediction) -> None:
        """One photo with its people. name: its `file_name`."""
        images, annotations = self.record["images"], self.record["annotations"]
        number = len(images) + 1
        images.append({"id": number, "file_name": name, "width": prediction.width, "height": prediction.height})
        for person in prediction.persons:
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1} | _person(person))
        self.record["info"]["trained"] &= prediction.trained


def to_coco(predictions: Iterable[tuple[str, Prediction]]) -> dict[str, Any]:
    """(file name, prediction) pairs -> a COCO keypoints file: info, images, annotations, categories; plain JSON values.

    Keypoints are x, y, v in pixels of the photo, pixel centres at integers: v is 2, or 0 with x = y = 0 where a number is not
    finite. bbox: x, y, width, height around them. score: the detection's confidence. Own fields: side, presence, quality.
    """
    made = CocoFile()
    for name, prediction in predictions:
        made.add(name, prediction)
    return made.record


def _person(person: Person) -> dict[str, Any]:
    points = person.camera.project(np.concatenate([person.head.keypoints_3d, person.hand.keypoints_3d])).astype(float)
    known = np.isfinite(points).all(1)
    seen = points[known]
    low, high = (seen.min(0), seen.max(0)) if len(seen) else (np.zeros(2), np.zeros(2))
    triples = np.column_stack([np.where(known[:, None], points, 0.0), np.where(known, 2, 0)])
    width, height = (high - low).tolist()
    return {
        "keypoints": [
            int(value) if k % 3 == 2 else round(value, 3) for k, value in enumerate(triples.ravel().tolist())
        ],
        "num_keypoints": int(known.sum()),
        "bbox": [round(value, 3) for value in (*low.tolist(), width, height)],
        "area": round(width * height, 3),
        "iscrowd": 0,
        "score": finite(person.confidence),
        "side": person.side,
        "presence": finite(person.presence),
        "quality": finite(person.quality),
    }


def finite(value: float | None) -> float | None:
    """A number JSON can hold: None where it is none."""
    return None if value is None or not np.isfinite(value) else float(value)
