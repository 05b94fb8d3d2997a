"""Speed, touch quality and detectability of synthetic scenes, in one thread; if asked, a contact sheet.

python -m benchmarks.pipeline.synthesis --count 500 --unoccluded 200 --detect --rows rows.jsonl --save

With --rows a run may be stopped, or given a smaller --count first: the next one goes on after the last scene in the file.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.results import Figure, report, tabulate

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")


@dataclass(frozen=True)
class Config:
    """What to measure."""

    count: int = 200
    """Scenes at most."""
    unoccluded: int = 0
    """Stop at so many touching scenes with face and hand unoccluded; 0 makes all of --count."""
    two_hands_share: float = 0.08
    """Share of touching scenes with two hands."""
    rows: Path | None = None
    """JSONL file that keeps what was measured of each scene."""
    seed: int = 0
    size: int = 256
    detect: bool = False
    """Ask MediaPipe Face Mesh and Hands (static mode, confidence 0.5) for face and hand."""
    sheet: Path | None = None
    """Write a contact sheet with keypoints, contact and deformation drawn."""
    shown: int = 100
    """Scenes on the sheet."""
    save: bool = False
    """Write the figures to docs/results/synthesis.csv and its page."""


def main(config: Config) -> None:
    import cv2
    import torch
    from rich.progress import track

    from handface.pipeline.synthesis.make import SynthesisConfig, SynthesizeStage, make_sample, pack_scene, render_scene
    from handface.pipeline.synthesis.scene.scene import NoSceneError, SceneConfig

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    scenes = SceneConfig(two_hands_share=config.two_hands_share)
    synthesis = SynthesisConfig(seed=config.seed, size=config.size, scenes=scenes)
    SynthesizeStage(synthesis).setup()
    make_sample(10**6, synthesis)  # bakes the atlases
    finder = Finder() if config.detect else None
    rows = (
        [json.loads(line) for line in config.rows.read_text().splitlines()]
        if config.rows and config.rows.exists()
        else []
    )
    pictures = []
    for scene_id in track(range(len(rows), config.count), "scenes"):
        if config.unoccluded and sum(map(is_unoccluded, rows)) >= config.unoccluded:
            break
        start_wall = time.perf_counter()
        try:
            made = render_scene(scene_id, synthesis, clock=time.process_time)
        except NoSceneError:
            row = {"failed": True}
        else:
            start = time.process_time()
            sample = pack_scene(made, scene_id, synthesis)
            cpu = made.seconds | {"labels, JPEG, depth PNG": time.process_time() - start}
            row = scene_row(made, sample) | {"cpu": cpu, "wall": time.perf_counter() - start_wall}
            if finder is not None:
                row |= finder(made.image, sample)
            if config.sheet is not None and len(pictures) < config.shown:
                pictures.append(drawn(made, sample, scene_id, row))
        rows.append(row)
        if config.rows is not None:
            with config.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
    report("synthesis", figures_of(config, rows), config.save)
    if config.sheet is not None:
        cv2.imwrite(str(config.sheet), sheet(pictures)[..., ::-1])


def scene_row(made, sample) -> dict:
    from handface.pipeline.synthesis.scene.attempt import hand_gap

    scene, touch = made.scene, made.scene.touch
    visible = sample.labels.keypoint_visibility
    row = {
        "kind": scene.kind,
        "region": scene.region,
        "grip": scene.grip,
        "attempts": scene.attempts,
        "deepest": touch.deepest * 1e3,
        "median": touch.median_depth * 1e3,
        "contacts": int(touch.hand_contact.sum()),
        "head_contacts": int(touch.head_contact.sum()),
        "deformation": float(np.linalg.norm(scene.displacement, axis=1).max() * 1e3),
        "face_visible": float(visible[17:68].mean()),
        "hand_visible": float(visible[68:].mean()),
        "hands": 1,
    }
    if scene.second is not None:
        first, second = scene.mirrored(scene.hand.vertices), scene.second.mirrored(scene.second.hand.vertices)
        row |= {
            "hands": 2,
            "second_region": scene.second.region,
            "second_deepest": scene.second.touch.deepest * 1e3,
            "second_median": scene.second.touch.median_depth * 1e3,
            "second_contacts": int(scene.second.touch.hand_contact.sum()),
            "gap": hand_gap(first, second, first_left=scene.left) * 1e3,
        }
    return row


def is_unoccluded(row: dict) -> bool:
    """Whether a touching scene shows 60 % of the face's points (without the jaw line) and half of hand 0's."""
    return row.get("kind") == "touch" and row["face_visible"] >= 0.6 and row["hand_visible"] >= 0.5


class Finder:
    """MediaPipe's own answer to: is there a face, is there a hand, and where."""

    def __init__(self) -> None:
        from mediapipe.python.solutions import face_mesh, hands

        self.face = face_mesh.FaceMesh(static_image_mode=True, max_num_faces=1, min_detection_confidence=0.5)
        self.hands = hands.Hands(static_image_mode=True, max_num_hands=2, min_detection_confidence=0.5)

    def __call__(self, image: np.ndarray, sample) -> dict:
        face = self.face.process(image).multi_face_landmarks
        hands = self.hands.process(image).multi_hand_landmarks
        row = {"face": bool(face), "hand": bool(hands), "hands_found": len(hands or ())}
        size = image.shape[0]
        if hands:
            truth = sample.labels.hand_keypoints_2d[0, :, :2]
            found = [np.array([[p.x * size - 0.5, p.y * size - 0.5] for p in hand.landmark]) for hand in hands]
            palm = np.linalg.norm(truth[9] - truth[0])
            row["hand_error"] = float(min(np.linalg.norm(f - truth, axis=1).mean() for f in found) / palm)
        if face:
            truth = sample.labels.face_keypoints_2d[:, :2]
            points = face[0].landmark
            nose = np.array([points[4].x * size - 0.5, points[4].y * size - 0.5])
            eyes = np.linalg.norm(truth[45] - truth[36])
            row["nose_error"] = float(np.linalg.norm(nose - truth[30]) / eyes)
        return row


def figures_of(config: Config, rows: list[dict]) -> list[Figure]:
    scenes = [r for r in rows if "kind" in r]
    touching = [r for r in scenes if r["kind"] == "touch"]
    both = [r for r in touching if r["hands"] == 2]
    n, wall = len(scenes), sum(r["wall"] for r in scenes)
    cpu: dict[str, float] = defaultdict(float)
    for row in scenes:
        for step, seconds in row["cpu"].items():
            cpu[step] += seconds
    whole = sum(cpu.values())
    print(
        f"{n / whole:.2f} scenes per second of CPU, load {os.getloadavg()[0]:.1f} at the end. {len(rows) - n} of {len(rows)} scenes "
        f"found no touch. Kinds: {dict(Counter(r['kind'] for r in scenes))}. "
        f"Attempts per scene: mean {np.mean([r['attempts'] for r in scenes]):.2f}."
    )
    steps = cpu | {"whole sample": whole, "whole sample, wall clock": wall}
    figures = tabulate("step", {step: {"ms per scene": f"{seconds / n * 1e3:.0f}"} for step, seconds in steps.items()})
    if touching:
        figures += _touch_figures(touching)
    if both:
        figures += _two_hands_figures(both, [r for r in touching if r["hands"] == 1])
    if config.detect:
        figures += _detection_figures(scenes)
    return figures


def _touch_figures(touching: list[dict]) -> list[Figure]:
    quality, regions = {}, {}
    for key, name in (
        ("deepest", "deepest hand vertex inside the deformed head, mm"),
        ("median", "median depth of the vertices inside, mm"),
        ("deformation", "largest displacement of the skin, mm"),
        ("contacts", "hand vertices in contact"),
        ("head_contacts", "head vertices in contact"),
    ):
        values = np.array([r[key] for r in touching])
        quality[name] = {
            "median": f"{np.median(values):.2f}",
            "95 %": f"{np.percentile(values, 95):.2f}",
            "worst": f"{values.max():.2f}",
        }
    for region in sorted({r["region"] for r in touching}):
        mine = [r for r in touching if r["region"] == region]
        moved = [r["deformation"] for r in mine]
        regions[region] = {
            "scenes": str(len(mine)),
            "attempts": f"{np.mean([r['attempts'] for r in mine]):.1f}",
            "deformation mm, median / max": f"{np.median(moved):.1f} / {max(moved):.1f}",
        }
    return [*tabulate("over touching scenes", quality), *tabulate("region", regions)]


def _two_hands_figures(both: list[dict], single: list[dict]) -> list[Figure]:
    quality, speed = {}, {}
    for keys, name in (
        (("deepest", "second_deepest"), "deepest vertex of each hand inside the deformed head, mm"),
        (("median", "second_median"), "median depth of the vertices inside, mm"),
        (("contacts", "second_contacts"), "vertices of each hand in contact"),
        (("gap",), "signed distance between the hands, mm"),
        (("attempts",), "attempts at the first hand"),
    ):
        values = np.array([r[key] for r in both for key in keys])
        quality[name] = {
            "median": f"{np.median(values):.2f}",
            "least": f"{values.min():.2f}",
            "most": f"{values.max():.2f}",
        }
    for rows, name in ((both, "two hands"), (single, "one hand")):
        if rows:
            speed[name] = {
                "scenes": str(len(rows)),
                "geometry ms": f"{np.mean([r['cpu']['geometry'] for r in rows]) * 1e3:.0f}",
                "scenes per second of CPU": f"{1 / np.mean([sum(r['cpu'].values()) for r in rows]):.2f}",
                "drawn more than once": f"{np.mean([r['attempts'] > 1 for r in rows]):.0%}",
            }
    return [*tabulate("two hands", quality), *tabulate("touching with", speed)]


def _detection_figures(scenes: list[dict]) -> list[Figure]:
    groups = {
        "touching, face unoccluded (60 % of its points seen), hand seen (50 %)": [
            r for r in scenes if is_unoccluded(r)
        ],
        "of these, two hands": [r for r in scenes if is_unoccluded(r) and r["hands"] == 2],
        "all with two hands": [r for r in scenes if r["hands"] == 2],
        "all touching": [r for r in scenes if r["kind"] == "touch"],
        "near": [r for r in scenes if r["kind"] == "near"],
        "in front": [r for r in scenes if r["kind"] == "front"],
    }
    table = {}
    for name, mine in groups.items():
        if mine:
            hand = [r["hand_error"] for r in mine if "hand_error" in r] or [np.nan]
            nose = [r["nose_error"] for r in mine if "nose_error" in r] or [np.nan]
            table[name] = {
                "scenes": str(len(mine)),
                "face found": f"{np.mean([r['face'] for r in mine]):.1%}",
                "hand found": f"{np.mean([r['hand'] for r in mine]):.1%}",
                "hand error, palms": f"{np.median(hand):.3f}",
                "nose error, eye spans": f"{np.median(nose):.3f}",
            }
    return tabulate("MediaPipe", table)


def drawn(made, sample, scene_id: int, row: dict) -> np.ndarray:
    """The picture, and beside it the same with keypoints, contact (red) and deformation (colour) drawn."""
    import cv2

    from handface.pipeline.annotators.landmarks import HAND_BONES

    scale = 2 if made.image.shape[0] <= 256 else 1
    image = cv2.resize(made.image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    over = image.copy()

    def dots(points: np.ndarray, colours: np.ndarray, radius: int) -> None:
        for (x, y), colour in zip((points + 0.5) * scale - 0.5, colours, strict=True):
            cv2.circle(over, (round(float(x)), round(float(y))), radius, [int(c) for c in colour], -1, cv2.LINE_AA)

    scene, view = made.scene, made.view
    moved = np.linalg.norm(scene.displacement, axis=1)
    rows = np.flatnonzero(moved > 0.0005)
    strength = np.clip(moved[rows] / 0.012, 0, 1)[:, None]
    dots(
        view.camera.project(view.to_camera(scene.head[rows] + scene.displacement[rows])),
        np.array([40, 90, 255]) * (1 - strength) + np.array([255, 230, 0]) * strength,
        2,
    )
    touched = np.flatnonzero(np.unpackbits(sample.labels.head_contact)[: len(scene.head)])
    dots(view.camera.project(view.to_camera(scene.head[touched])), np.tile([255, 0, 0], (len(touched), 1)), 2)
    hands = sample.labels.hand_keypoints_2d
    hand = hands[0]
    for points, colour in zip(hands, ((0, 255, 120), (255, 150, 0)), strict=False):
        for a, b in HAND_BONES:
            ends = [tuple(round(float(v)) for v in (points[k, :2] + 0.5) * scale - 0.5) for k in (a, b)]
            cv2.line(over, ends[0], ends[1], colour, 1, cv2.LINE_AA)
    seen = sample.labels.keypoint_visibility.astype(bool)
    points = np.concatenate([sample.labels.face_keypoints_2d[:, :2], hand[:, :2]])
    dots(points, np.where(seen[:, None], [255, 255, 255], [90, 90, 90]), 1)
    found = f" face {'+' if row['face'] else '-'} hand {'+' if row['hand'] else '-'}" if "face" in row else ""
    text = f"{scene_id} {row['kind']} {row['region']} {row['grip']} {row['deformation']:.0f} mm{found}"
    cv2.putText(over, text, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 0), 1, cv2.LINE_AA)
    return np.concatenate([image, over], 1)


def sheet(pictures: list[np.ndarray], columns: int = 4) -> np.ndarray:
    blank = np.zeros_like(pictures[0])
    pictures = pictures + [blank] * (-len(pictures) % columns)
    return np.concatenate([np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)])


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config))
