"""Learns the weights of the contact rule (`ContactConfig`) and prints them.

    python -m benchmarks.pipeline.contact_rule --photos DIR --wild DIR --scenes DIR

A logistic regression on four numbers of each face-hand pair. Touching photos and scenes are the positives, everything else
the negatives; each source and class weighs the same. Half of the photos and the later scenes stay out for `benchmarks.pipeline.detection`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from rich.progress import track
from scipy.optimize import minimize

from benchmarks.pipeline.detection import Picture, read_photos, read_scenes
from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.stages.contact_evidence import ContactConfig, ContactEvidence, contact_evidence
from handface.pipeline.stages.detect import DetectConfig, DetectStage

TOUCHING, LEFT_OUT = ("touching, whole face", "touch"), ("unclear", "touching, partial face")
RIDGE = 0.003


@dataclass(frozen=True)
class Config:
    photos: Path
    wild: Path
    scenes: Path


def main(config: Config) -> None:
    sources = {
        "photos": [photo for photo in read_photos(config.photos) if photo.tuned and photo.kind not in LEFT_OUT],
        "wild": [Picture(path, "wild", {}) for path in sorted(config.wild.glob("*.jpg"))],
        "scenes": [scene for scene in read_scenes(config.scenes) if scene.tuned],
    }
    stage, rule = DetectStage(DetectConfig(segmenter="on")), ContactConfig()
    stage.setup()
    rows, labels, groups = [], [], []
    for name, pictures in sources.items():
        for picture in track(pictures, name):
            touching = picture.kind in TOUCHING
            for evidence in usable_pairs(stage, picture, rule, touching):
                rows.append(features(evidence, rule))
                labels.append(touching)
                groups.append(f"{name} {touching}")
    weights, bias = fit(np.array(rows), np.array(labels), np.array(groups))
    for name, value in zip(
        ("reach_weight", "skin_weight", "cover_weight", "front_weight", "bias"), [*weights, bias], strict=True
    ):
        print(f"{name}: float = {value:.1f}")


def usable_pairs(stage: DetectStage, picture: Picture, rule: ContactConfig, touching: bool) -> list[ContactEvidence]:
    """The pairs within the rule's limits; of a touching picture the deepest, for the others need not touch."""
    record = Record(SourceItem(str(picture.path)), image=cv2.imread(str(picture.path), cv2.IMREAD_COLOR_RGB))
    stage([record])
    pairs = [contact_evidence(face, hand, record.skin) for face in record.faces for hand in record.hands]
    pairs = [pair for pair in pairs if pair.score(rule) > 0 and pair.skin_touch is not None]
    return [max(pairs, key=lambda pair: pair.overlap)] if touching and pairs else pairs


def features(evidence: ContactEvidence, rule: ContactConfig) -> list[float]:
    """Reach, border, cover and size as `ContactEvidence.score` takes them."""
    return [
        float(np.clip(evidence.overlap, -rule.most_reach, rule.most_reach)),
        min(evidence.skin_touch or 0.0, rule.most_skin),
        max(0.0, evidence.coverage - rule.free_cover),
        max(0.0, evidence.scale_ratio - rule.free_ratio),
    ]


def fit(rows: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, float]:
    """Logistic regression with a small ridge; every group weighs the same."""
    mean, spread = rows.mean(0), rows.std(0) + 1e-6
    scaled, signs = (rows - mean) / spread, np.where(labels, 1.0, -1.0)
    weight = np.zeros(len(rows))
    for group in np.unique(groups):
        weight[groups == group] = 1 / (groups == group).sum()
    weight /= weight.sum()

    def loss(values: np.ndarray) -> float:
        odds = signs * (scaled @ values[:-1] + values[-1])
        return float((weight * np.logaddexp(0, -odds)).sum() + RIDGE * (values[:-1] ** 2).sum())

    found = minimize(loss, np.zeros(rows.shape[1] + 1)).x
    weights = found[:-1] / spread
    return weights, float(found[-1] - (weights * mean).sum())


if __name__ == "__main__":
    main(tyro.cli(Config))
