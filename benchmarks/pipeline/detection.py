"""Who is kept: the hand-face filter on labelled photos, photos where nothing touches, and rendered scenes with known answers.

    python -m benchmarks.pipeline.detection --photos DIR --wild DIR --scenes DIR --save

--photos holds an `index.csv` with file, hand_touches_face (yes, near, occluding, unclear, no) and tags (`partial_face`).
`benchmarks.pipeline.contact_rule` learns from one half of them (by the names' hashes), from --wild and from scenes below
`FIRST_TEST_SCENE`; this reports on the rest apart. --scenes is the folder of `benchmarks.pipeline.detection_scenes`. No photo is part
of this repository. Intervals are Wilson's, 95 %.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from rich.progress import track

from benchmarks.results import Figure, report
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.contact import ContactStage
from handface.pipeline.stages.detect import DetectConfig, DetectStage

FIRST_TEST_SCENE = 240
FOUND = 0.35  # mean point error / hand size below which a hand counts as found
BASE_RATE = 0.01


@dataclass(frozen=True)
class Config:
    photos: Path | None = None
    wild: Path | None = None
    scenes: Path | None = None
    most_scenes: int = 10_000
    save: bool = False
    """Write the figures to docs/results/detection.csv and its page."""


@dataclass(frozen=True)
class Picture:
    """kind: what a person or the renderer says.  row: its line of the index."""

    path: Path
    kind: str
    row: dict[str, Any]

    @property
    def tuned(self) -> bool:
        """Whether the rule was learned from it."""
        return is_tuned(self.path.name) if "scene" not in self.row else int(self.row["scene"]) < FIRST_TEST_SCENE


class Filter:
    """The stages that decide."""

    def __init__(self, config: DetectConfig) -> None:
        self.stages = [DetectStage(config), ContactStage()]
        for stage in self.stages:
            stage.setup()

    def __call__(self, path: Path) -> tuple[Record, list[Any]]:
        """The record, and the hands that were found, whatever became of it."""
        return self.judge(cv2.imread(str(path), cv2.IMREAD_COLOR_RGB))

    def judge(self, image: np.ndarray) -> tuple[Record, list[Any]]:
        """The same for a picture (H, W, 3) uint8 RGB."""
        record = Record(SourceItem("picture"), image=image)
        self.stages[0]([record])
        hands = list(record.hands)
        if record.alive:
            self.stages[1]([record])
        return record, hands


def main(config: Config) -> None:
    figures: list[Figure] = []
    ways = {
        "without segmenter": Filter(DetectConfig(segmenter="off")),
        "whole filter": Filter(DetectConfig(segmenter="on")),
    }
    if config.photos:
        photos = list(read_photos(config.photos))
        rates: dict[str, tuple[int, int]] = {}
        for way, keeps in ways.items():
            kept = {photo.path: keeps(photo.path)[0].alive for photo in track(photos, way)}
            for half, tuned in (("learned from", True), ("never looked at", False)):
                for kind in dict.fromkeys(photo.kind for photo in photos):
                    some = [kept[photo.path] for photo in photos if photo.kind == kind and photo.tuned == tuned]
                    figures.append(Figure(f"photos | {kind} | {way}, {half}", f"{sum(some)} of {len(some)}"))
                    rates[f"{way} {half} {kind}"] = (sum(some), len(some))
        figures += precision_at_base_rate(rates)
    if config.wild:
        paths = sorted(config.wild.glob("*.jpg"))
        count = sum(ways["whole filter"](path)[0].alive for path in track(paths, "wild"))
        figures.append(Figure("bare | photos of gestures, nothing touches | kept", rate(count, len(paths))))
    if config.scenes:
        scenes = [scene for scene in read_scenes(config.scenes) if not scene.tuned][: config.most_scenes]
        figures += scene_figures(scenes, ways["whole filter"])
    report("detection", figures, config.save)


def is_tuned(name: str) -> bool:
    """Whether a photo belongs to the half that the rule is learned from."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 2 == 0


def read_photos(folder: Path) -> Iterator[Picture]:
    """The photos of an index.csv, by what a person says of them."""
    for row in csv.DictReader((folder / "index.csv").open()):
        label = row["hand_touches_face"]
        if label == "yes":
            kind = "touching, partial face" if "partial_face" in row["tags"] else "touching, whole face"
        else:
            kind = {"near": "near or occluding", "occluding": "near or occluding", "unclear": "unclear"}.get(
                label, "negative"
            )
        yield Picture(folder / row["file"], kind, row)


def read_scenes(folder: Path) -> Iterator[Picture]:
    """The pictures of `benchmarks.pipeline.detection_scenes`."""
    for line in (folder / "index.jsonl").read_text().splitlines():
        row = json.loads(line)
        yield Picture(folder / row["file"], row["kind"], row)


def precision_at_base_rate(rates: dict[str, tuple[int, int]]) -> list[Figure]:
    """Of what is kept where one picture in a hundred touches, the share that does, from the photos never looked at."""
    way = "whole filter never looked at"
    hit, touching = rates[f"{way} touching, whole face"]
    wrong, others = (sum(rates[f"{way} {kind}"][i] for kind in ("near or occluding", "negative")) for i in (0, 1))
    recall, false = wilson(hit, touching), wilson(wrong, others)

    def precision(kept: float, mistaken: float) -> float:
        return 100 * BASE_RATE * kept / max(BASE_RATE * kept + (1 - BASE_RATE) * mistaken, 1e-9)

    low, high = precision(recall[0], false[1]), precision(recall[1], false[0])
    row = f"base rate {BASE_RATE:.0%}, others all near, occluding or hard negatives"
    return [
        Figure(
            f"precision | {row} | precision",
            f"{precision(hit / touching, wrong / others):.0f} ({low:.0f} to {high:.0f})",
            "%",
        )
    ]


def scene_figures(scenes: list[Picture], keeps: Filter) -> list[Figure]:
    """What is kept of each kind, and the hands found where they are known to be."""
    kept: dict[str, list[bool]] = defaultdict(list)
    found: list[list[Any]] = []
    for scene in track(scenes, "scenes"):
        record, hands = keeps(scene.path)
        kept[scene.kind].append(record.alive)
        found.append(hands)
    names = {"touch": "touching", "near": "1 to 5 cm beside", "front": "8 to 20 cm in front"}
    names |= {"bare_face": "bare faces, rendered", "bare_hand": "bare hands, rendered"}
    figures = [
        Figure(f"{'bare' if kind.startswith('bare') else 'scenes'} | {names[kind]} | kept", rate(sum(some), len(some)))
        for kind, some in sorted(kept.items())
    ]
    return figures + hand_figures(scenes, found, "this build")


def hand_figures(scenes: list[Picture], found: list[list[Any]], column: str) -> list[Figure]:
    """Hands found where they are known to be, their errors and sides, and second hands.

    Args:
        scenes: the pictures.
        found: of each, the hands that a detector found.
        column: of the table, names the detector.
    """
    seen = [[nearest(hand, hands) for hand in scene.row["hands"]] for scene, hands in zip(scenes, found, strict=True)]
    right = [(error, same) for some in seen for error, same in some if error < FOUND]
    touching = [some for scene, some in zip(scenes, seen, strict=True) if len(some) == 2 and scene.kind == "touch"]
    pairs = [sum(error < FOUND for error, _ in some) for some in touching]
    values = {
        "hands in rendered scenes found": rate(len(right), sum(map(len, seen))),
        "mean error of those, of hand size": f"{100 * float(np.mean([error for error, _ in right])):.1f} %",
        "side right": rate(sum(same for _, same in right), len(right)),
        "both hands found where two touch": rate(pairs.count(2), len(pairs)),
        "the second found where one of two is": rate(pairs.count(2), len(pairs) - pairs.count(0)),
    }
    return [Figure(f"hands | {row} | {column}", value) for row, value in values.items()]


def nearest(known: dict[str, Any], hands: list[Any]) -> tuple[float, bool]:
    """Error of the found hand that is nearest to the known one, in hand sizes, and whether its side is right."""
    points = np.array(known["points"])
    size = np.ptp(points, axis=0).max()
    errors = [float(np.linalg.norm(hand.keypoints[:, :2] - points, axis=1).mean() / size) for hand in hands]
    if not errors:
        return np.inf, False
    best = int(np.argmin(errors))
    return errors[best], hands[best].side == known["side"]


def rate(count: int, total: int) -> str:
    """`n of m, p % (low to high)`."""
    low, high = wilson(count, total)
    return f"{count} of {total}, {100 * count / max(total, 1):.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def wilson(count: int, total: int) -> tuple[float, float]:
    """95 % interval of a share."""
    if not total:
        return 0.0, 1.0
    z, share = 1.96, count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


if __name__ == "__main__":
    main(tyro.cli(Config))
