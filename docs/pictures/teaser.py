"""Makes docs/pictures/teaser.jpg from rendered scenes: picture, meshes found in it, contact. `python docs/pictures/teaser.py`."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

import handface
from handface.jobs import synthesize
from handface.model.outputs import draw_contact_map, draw_overlay
from handface.pipeline.contract.shards import iter_samples

SEED, SCENES, HEIGHT = 12, (0, 6, 7), 200
TARGET = Path(__file__).with_name("teaser.jpg")


def make_row(picture: np.ndarray, model: object) -> np.ndarray:
    """Picture, overlay and contact map side by side, `HEIGHT` pixels high."""
    prediction = model.predict(picture)  # type: ignore[attr-defined]
    panels = [picture, draw_overlay(picture, prediction)]
    panels += [draw_contact_map(person, prediction.trained) for person in prediction.persons[:1]]
    sized = []
    for panel in panels:
        image = Image.fromarray(panel)
        sized.append(
            np.asarray(image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS))
        )
    return np.concatenate(sized, 1)


def main() -> None:
    """Render, predict, write."""
    with tempfile.TemporaryDirectory() as folder:
        count = max(SCENES) + 1
        synthesize.run(synthesize.Config(count=count, output=folder, seed=SEED, size=512, local=True))
        samples = [sample for tar in sorted(Path(folder).glob("*.tar")) for sample in iter_samples(str(tar))]
    samples.sort(key=lambda sample: int(sample.meta.source.member or 0))
    model = handface.load()
    rows = [make_row(np.asarray(Image.open(BytesIO(samples[number].image))), model) for number in SCENES]
    width = max(row.shape[1] for row in rows)
    rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    Image.fromarray(np.concatenate(rows)).save(TARGET, quality=85)


if __name__ == "__main__":
    main()
