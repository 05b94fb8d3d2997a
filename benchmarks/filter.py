"""The hand-face filter against hand labels, beside a plain MediaPipe pass with a 2D-overlap rule, in one run.

    python benchmarks/filter.py --photos DIR [--write docs/results/DATE-filter.md]

DIR holds photos and an `index.csv` with columns file, hand_touches_face (yes, near, occluding, unclear, no) and tags
(`partial_face` where the face is cut). The photos are not part of this repository.
"""

from __future__ import annotations

import csv
import dataclasses
import time
from collections import Counter
from pathlib import Path

import numpy as np
import tyro
from rich.progress import track

CLASSES = ("touching, whole face", "touching, partial face", "near or occluding", "unclear", "negative")


@dataclasses.dataclass(frozen=True)
class Config:
    photos: Path
    """Folder with index.csv and the photos."""
    write: Path | None = None
    """Markdown file for the table."""
    segmenter: bool = True
    """Use the skin segmenter (model selfie-multiclass in the model store)."""


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
    from pipeline.record import Record, SourceItem, run_stages
    from pipeline.stages.contact import ContactStage
    from pipeline.stages.crop import CropStage
    from pipeline.stages.decode import DecodeStage
    from pipeline.stages.dedupe import DedupeStage
    from pipeline.stages.detect import DetectConfig, DetectStage
    from pipeline.stages.read import ReadStage

    rows = list(csv.DictReader((config.photos / "index.csv").open()))
    reading = [ReadStage(), DecodeStage()]
    looking = [DetectStage(DetectConfig(segmenter="on" if config.segmenter else "off")), ContactStage(), CropStage()]
    for stage in reading + looking:
        stage.setup()
    plain = PlainMediaPipe()
    total, kept, plain_kept = Counter[str](), Counter[str](), Counter[str]()
    notes: list[str] = []
    images: list[Record] = []
    seconds = {"plain": 0.0, "ours": 0.0}
    for row in track(rows, "filter"):
        name = class_of(row)
        record = Record(SourceItem(str(config.photos / row["file"])))
        list(run_stages(reading, [record]))
        images.append(Record(record.item, image=record.image, sha256=record.sha256))
        start = time.perf_counter()
        plain_kept[name] += plain.keeps(record.image)
        seconds["plain"] += time.perf_counter() - start
        start = time.perf_counter()
        list(run_stages(looking, [record]))
        seconds["ours"] += time.perf_counter() - start
        total[name] += 1
        kept[name] += record.alive
        if (record.alive != (name == CLASSES[0]) and name != CLASSES[4]) or (record.alive and name == CLASSES[4]):
            why = "kept" if record.alive else f"{record.reason}: {record.detail}"
            notes.append(f"| {name} | `{row['file'].split('_', 2)[0]}_{row['file'].split('_')[1]}` | {why} |")
    dedupe = DedupeStage()
    dedupe.setup()
    dedupe.start_unit()
    dedupe(images)
    duplicates = [f"{Path(r.item.uri).name[:7]} ({r.detail})" for r in images if not r.alive]
    lines = ["| class | photos | plain MediaPipe + overlap | handface |", "|---|---|---|---|"]
    lines += [f"| {name} | {total[name]} | {plain_kept[name]} | {kept[name]} |" for name in CLASSES]
    lines += ["", f"Duplicates found: {', '.join(duplicates) or 'none'}."]
    lines += [f"Seconds for {len(rows)} photos: plain {seconds['plain']:.1f}, handface {seconds['ours']:.1f}."]
    lines += ["", "| class | photo | decision |", "|---|---|---|", *notes]
    print("\n".join(lines))
    if config.write:
        command = f"python benchmarks/filter.py --photos DIR{'' if config.segmenter else ' --no-segmenter'}"
        text = f"# The hand-face filter against hand labels\n\nCommand: `{command}`\n\n" + "\n".join(lines) + "\n"
        config.write.write_text(text)


if __name__ == "__main__":
    main(tyro.cli(Config))
