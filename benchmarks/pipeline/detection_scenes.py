"""Renders pictures with known answers for `benchmarks.pipeline.detection`: hands at, near and before faces, bare faces, bare hands.

    python -m benchmarks.pipeline.detection_scenes --count 1000 --output out/scenes

Each scene gives three pictures from the same camera: all of it, the head without hands, the hands without the head (every
other one cut to the hand). `index.jsonl` has a line for each picture.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro

from handface.pipeline.synthesis.make import SynthesisConfig, render_scene, scene_rng
from handface.pipeline.synthesis.scene.labels import ARM_MESHES, scene_keypoints
from handface.pipeline.synthesis.scene.scene import NoSceneError, SceneConfig


@dataclass(frozen=True)
class Config:
    output: Path
    """Folder for the pictures and their index."""
    count: int = 1000
    """Scenes."""
    first: int = 0
    """Number of the first scene; scenes that are in the index are not rendered again."""
    seed: int = 77
    size: int = 384


def main(config: Config) -> None:
    config.output.mkdir(parents=True, exist_ok=True)
    index = config.output / "index.jsonl"
    lines = index.read_text().splitlines() if index.exists() else []
    done = {json.loads(line)["scene"] for line in lines}
    scenes = SceneConfig(near_share=0.25, front_share=0.25, two_hands_share=0.2)
    synthesis = SynthesisConfig(seed=config.seed, size=config.size, scenes=scenes)
    with index.open("a") as file:
        for scene in range(config.first, config.first + config.count):
            if scene in done:
                continue
            for row in render(scene, synthesis, config.output):
                file.write(json.dumps(row) + "\n")
            file.flush()


def render(number: int, config: SynthesisConfig, folder: Path) -> list[dict[str, Any]]:
    """The rows of one scene's pictures, none if there is no such scene."""
    from handface.model.render import render as draw
    from handface.model.render.texture import to_srgb
    from handface.pipeline.synthesis.scene.background import draw_background
    from handface.pipeline.synthesis.scene.domain import DOMAINS
    from handface.pipeline.synthesis.scene.view import draw_light

    try:
        made = render_scene(number, config)
    except NoSceneError:
        return []
    points = scene_keypoints(made.scene, made.view, made.picture, made.dressed)
    sides = [made.scene.left] + ([made.scene.second.left] if made.scene.second else [])
    hands = [
        {"side": "left" if left else "right", "points": points.pixels[68 + 21 * i : 89 + 21 * i].round(2).tolist()}
        for i, left in enumerate(sides)
    ]
    rows = [_save(folder, number, made.scene.kind, made.image, hands, points.pixels[:68].round(2).tolist())]
    rng = scene_rng(config.seed + 1, number)
    light, background = (
        draw_light(rng, made.view), draw_background(rng, config.size, DOMAINS["open"], None)
    )  # fmt: skip
    for kind in ("bare_face", "bare_hand"):
        named = zip(made.dressed.names, made.dressed.meshes, strict=True)
        meshes = [mesh for name, mesh in named if name.endswith(ARM_MESHES) == (kind == "bare_hand")]
        picture = draw(meshes, made.view.camera, light, background, supersample=2)
        image = to_srgb(picture.colour * np.float32(rng.uniform(0.85, 1.2)))
        if kind == "bare_hand" and number % 2:
            image = _cut_to_hand(image, np.array(hands[0]["points"]))
        rows.append(_save(folder, number, kind, image, [], []))
    return rows


def _cut_to_hand(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    low, high = points.min(0), points.max(0)
    centre, half = (low + high) / 2, 0.75 * (high - low).max()
    x0, y0, x1, y1 = np.clip([*(centre - half), *(centre + half)], 0, len(image)).astype(int)
    cut = image[y0:y1, x0:x1]
    return (
        cv2.resize(cut, (len(image), len(image)), interpolation=cv2.INTER_CUBIC) if min(cut.shape[:2]) > 40 else image
    )


def _save(
    folder: Path, number: int, kind: str, image: np.ndarray, hands: list[dict[str, Any]], face: list[list[float]]
) -> dict[str, Any]:
    name = f"{number:05d}_{kind}.jpg"
    cv2.imwrite(str(folder / name), np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return {"file": name, "scene": number, "kind": kind, "hands": hands, "face": face}


if __name__ == "__main__":
    main(tyro.cli(Config))
