"""Hands that the build before this detector finds in the same scenes, beside those of `benchmarks.pipeline.detection`.

    python -m benchmarks.pipeline.detection_before --scenes DIR --before TREE --save

TREE is a checkout of commit 27dc664 (`git worktree add TREE 27dc664`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.pipeline.detection import hand_figures, read_scenes
from benchmarks.results import report
from handface.pipeline.contract.detections import Hand

# runs inside the other build: paths in, a line of hands for each out
_FIND = """
import json, sys, cv2
from pipeline.annotators.mediapipe import MediaPipeAnnotator

detector = MediaPipeAnnotator()
answers = []
for path in json.load(open(sys.argv[1])):
    (found,) = detector.annotate([cv2.imread(path)[:, :, ::-1].copy()])
    answers.append([(hand.keypoints.tolist(), hand.side, hand.score) for hand in found.hands])
open(sys.argv[2], "w").write(json.dumps(answers))
"""


@dataclass(frozen=True)
class Config:
    scenes: Path
    before: Path
    save: bool = False
    """Write the figures to docs/results/detection.csv and its page."""


def main(config: Config) -> None:
    scenes = [scene for scene in read_scenes(config.scenes) if not scene.tuned and scene.row["hands"]]
    figures = hand_figures(scenes, find_hands([scene.path for scene in scenes], config.before), "build before")
    report("detection", figures, config.save)


def find_hands(paths: list[Path], tree: Path) -> list[list[Hand]]:
    """The hands of each picture as the other build finds them."""
    with tempfile.TemporaryDirectory(prefix="handface-before-") as temp:
        wanted, answers = Path(temp) / "paths.json", Path(temp) / "hands.json"
        wanted.write_text(json.dumps([str(path.resolve()) for path in paths]))
        command = [sys.executable, "-c", _FIND, str(wanted), str(answers)]
        subprocess.run(command, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree)}, check=True)
        found = json.loads(answers.read_text())
    return [[Hand(np.array(points, np.float32), side, score) for points, side, score in some] for some in found]


if __name__ == "__main__":
    main(tyro.cli(Config))
