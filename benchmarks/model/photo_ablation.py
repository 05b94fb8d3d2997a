"""What makes a network work on photographs: several networks, each bare and fitted, on photos none was trained on and on scenes.

    python -m benchmarks.model.photo_ablation --models 'nano=dice-nano' 'points only=out/start' 'all=dice-m' \
        --photos 'photos/*.jpg' --touching photos/index.csv --synthetic out/open42 out/studio41 --save

Photos whose name has crc32 % 3 == 0 are measured, the others are for training. 2D errors are against the detector's points.
"""

from __future__ import annotations

import csv
import glob
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks.model.fit import Seen, _photos, _samples, auc, compare, look
from benchmarks.results import Figure, report
from handface.model.fitting.quality import guess_residuals


@dataclass(frozen=True)
class Config:
    """What is measured."""

    models: tuple[str, ...]
    """NAME=PRESET or NAME=FOLDER; a name that ends in `no points` is not given the detector's points."""
    photos: tuple[str, ...] = ()
    """Globs."""
    touching: Path | None = None
    """CSV with the columns `file` and `hand_touches_face` (yes or no); photos that it does not name do not touch."""
    synthetic: tuple[str, ...] = ()
    """Folders of synthetic shards."""
    limit: int = 100
    """Samples of each."""
    save: bool = False
    """Write the figures to docs/results/ablation.csv and the tables of its page."""


def main(config: Config) -> None:
    """Measure and print each network."""
    torch.set_num_threads(1)
    photos = sorted(path for pattern in config.photos for path in glob.glob(pattern) if held_out(path))  # noqa: PTH207
    touching = _touching(config.touching)
    figures: list[Figure] = []
    for text in config.models:
        name, _, model = text.partition("=")
        predictor = _predictor(model, with_points=not name.endswith("no points"))
        if photos:
            seen = list(look(predictor, _photos(photos)))
            figures += _rows("networks on photos", name, on_photos(seen, touching))
        for folder in config.synthetic:
            seen = list(look(predictor, _samples(folder, config.limit)))
            figures += _rows(f"networks on {Path(folder).name}", name, on_scenes(seen))
    report("ablation", figures, config.save)


def held_out(path: str) -> bool:
    """Whether a photo is set aside for measuring, by its file's name alone."""
    return zlib.crc32(Path(path).name.encode()) % 3 == 0


def on_photos(seen: list[Seen], touching: set[str]) -> dict[str, float | None]:
    """Means over people of 2D errors in % of the face, and how well presence tells touching photos from others."""
    row: dict[str, float | None] = {"people": len(seen)}
    for system in ("bare", "fitted"):
        off = np.stack([guess_residuals(getattr(one, system)) for one in seen]) * 100
        row[f"{system}: head %"] = float(np.nanmean(off[:, :68]))
        row[f"{system}: hand %"] = float(np.nanmean(off[:, 68:]))
        scores = [getattr(one, system).presence for one in seen]
        row[f"{system}: presence AUC"] = auc(scores, [float(one.name in touching) for one in seen])
    return row


def on_scenes(seen: list[Seen]) -> dict[str, float | None]:
    """Means over people, against the true meshes."""
    row: dict[str, float | None] = {"people": len(seen)}
    for system in ("bare", "fitted"):
        facts = [compare(getattr(one, system), one.truth) for one in seen if one.truth is not None]
        for name in ("pve", "pve_hand", "pve_head", "hand_z"):
            row[f"{system}: {name} mm"] = 1000 * float(np.mean([fact[name] for fact in facts]))
        row[f"{system}: presence AUC"] = auc(
            [getattr(one, system).presence for one in seen], [fact["true_touch"] for fact in facts]
        )
        for part in ("hand", "head"):
            touched = [fact[f"f1_{part}"] for fact in facts if fact["true_touch"]]
            row[f"{system}: F1 {part} %"] = 100 * float(np.mean(touched))
    return row


def _rows(table: str, name: str, row: dict[str, float | None]) -> list[Figure]:
    return [Figure(f"{table} | {name} | {key}", f"{value:.3g}") for key, value in row.items() if value is not None]


def _touching(index: Path | None) -> set[str]:
    if index is None:
        return set()
    with index.open(newline="") as stream:
        return {row["file"] for row in csv.DictReader(stream) if row["hand_touches_face"] == "yes"}


def _predictor(model: str, with_points: bool):  # type: ignore[no-untyped-def]
    """Of a folder, too, that was never trained on pictures."""
    from handface.model.fitting.config import FitConfig
    from handface.model.prediction.predictor import Predictor
    from handface.model.weights.named import load_network
    from handface.predict.people import PeopleDetector

    network = load_network(Path(model)).network
    predictor = Predictor.from_dice(network, PeopleDetector(), True, fit=FitConfig())
    predictor.looks_at_points = predictor.looks_at_points and with_points
    return predictor


if __name__ == "__main__":
    main(tyro.cli(Config))
