"""The hand-face filter against hand labels, beside a plain MediaPipe pass with a 2D-overlap rule, in one run.

    python -m benchmarks.filter --photos DIR [--write docs/results/filter.md]

DIR holds photos and an `index.csv` with columns file, hand_touches_face (yes, near, occluding, unclear, no) and tags
(`partial_face` where the face is cut). The photos are not part of this repository.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import time
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import tyro
from rich.progress import track

PLAIN = "plain MediaPipe + overlap"
CLASSES = ("touching, whole face", "touching, partial face", "near or occluding", "unclear", "negative")


@dataclasses.dataclass(frozen=True)
class Config:
    photos: Path
    """Folder with index.csv and the photos."""
    write: Path | None = None
    """Markdown file for the table."""


def class_of(row: dict[str, str]) -> str:
    label = row["hand_touches_face"]
    if label == "yes":
        return CLASSES[1] if "partial_face" in row["tags"] else CLASSES[0]
    return {"near": CLASSES[2], "occluding": CLASSES[2], "unclear": CLASSES[3]}.get(label, CLASSES[4])


class PlainMediaPipe:
    """FaceMesh and Hands as their documentation shows them; keep when a hand point lies in the hull of a face."""

    def __init__(self) -> None:
        import mediapipe as mp

        self.mesh = mp.solutions.face_mesh.FaceMesh(static_image_mode=True, max_num_faces=4)
        self.hands = mp.solutions.hands.Hands(static_image_mode=True, max_num_hands=4)

    def keeps(self, image: np.ndarray) -> bool:
        import cv2

        size = np.array(image.shape[1::-1])
        faces = self.mesh.process(image).multi_face_landmarks or []
        hands = self.hands.process(image).multi_hand_landmarks or []
        for face in faces:
            hull = cv2.convexHull((np.array([(p.x, p.y) for p in face.landmark]) * size).astype(np.float32))
            for hand in hands:
                points = np.array([(p.x, p.y) for p in hand.landmark]) * size
                if any(cv2.pointPolygonTest(hull, (float(x), float(y)), False) >= 0 for x, y in points):
                    return True
        return False


def main(config: Config) -> None:
    from handface.pipeline.contract.inputs import SourceItem
    from handface.pipeline.engine.record import Record, run_stages
    from handface.pipeline.stages.contact import ContactStage
    from handface.pipeline.stages.crop import CropStage
    from handface.pipeline.stages.decode import DecodeStage
    from handface.pipeline.stages.dedupe import DedupeStage
    from handface.pipeline.stages.detect import DetectConfig, DetectStage
    from handface.pipeline.stages.read import ReadStage

    rows = list(csv.DictReader((config.photos / "index.csv").open()))
    reading = [ReadStage(), DecodeStage(), DedupeStage()]
    ways = {
        "handface without segmenter": [DetectStage(DetectConfig(segmenter="off")), ContactStage(), CropStage()],
        "handface": [DetectStage(DetectConfig(segmenter="on")), ContactStage(), CropStage()],
    }
    for stage in [*reading, *(stage for stages in ways.values() for stage in stages)]:
        stage.setup()
    plain = PlainMediaPipe()
    total: Counter[str] = Counter()
    kept = {name: Counter[str]() for name in (PLAIN, *ways)}
    seconds = dict.fromkeys(kept, 0.0)
    notes: list[str] = []
    duplicates: list[str] = []
    for row in track(rows, "filter"):
        name, short = class_of(row), "_".join(row["file"].split("_")[:2])
        total[name] += 1
        first = Record(SourceItem(str(config.photos / row["file"])))
        list(run_stages(reading[:2], [first]))
        image, size = first.image, first.original_size
        reading[2]([first])
        if not first.alive:
            duplicates.append(f"`{short}` ({re.sub(r'from .*|as .*', '', first.detail).strip()})")
        start = time.perf_counter()
        kept[PLAIN][name] += plain.keeps(image)
        seconds[PLAIN] += time.perf_counter() - start
        for way, stages in ways.items():
            record = Record(first.item, image=image, original_size=size)
            start = time.perf_counter()
            list(run_stages(stages, [record]))
            seconds[way] += time.perf_counter() - start
            kept[way][name] += record.alive
            wanted = name == CLASSES[0]
            if way == "handface" and (name == CLASSES[1] or record.alive != wanted):
                why = "kept" if record.alive else f"{record.reason}: {record.detail}"
                notes.append(f"| {name} | `{short}` | {why} |")
    text = _text(total, kept, seconds, duplicates, notes)
    print(text)
    if config.write:
        config.write.write_text(text)


def _text(
    total: Counter[str],
    kept: dict[str, Counter[str]],
    seconds: dict[str, float],
    duplicates: list[str],
    notes: list[str],
) -> str:
    head = ["# The hand-face filter against hand labels", ""]
    head += [
        f"{date.today()}, {os.cpu_count()} CPU cores, `python -m benchmarks.filter --photos DIR`, all columns in one run.",
        "",
    ]
    head += ["Photos kept, by what a person says about them:", ""]
    head += [f"| class | photos | {' | '.join(kept)} |", "|" + "---|" * (2 + len(kept))]
    for name in CLASSES:
        head.append(f"| {name} | {total[name]} | " + " | ".join(str(kept[way][name]) for way in kept) + " |")
    head.append("| seconds | | " + " | ".join(f"{seconds[way]:.1f}" for way in kept) + " |")
    head += ["", f"Copies found by the dedupe stage: {', '.join(duplicates) or 'none'}."]
    head += [
        "",
        "A cut face is kept if 70 % of its 68 landmarks lie inside the photo and the hand's scale fits it.",
        "",
    ]
    head += ["What was kept outside the first class, and every photo of a cut face:", ""]
    return "\n".join([*head, "| class | photo | decision |", "|---|---|---|", *notes]) + "\n"


if __name__ == "__main__":
    main(tyro.cli(Config))
