"""Do the meshes lie on the picture, and is the hand where it is? The bare network, the fit and two trivial baselines, side by side.

    python -m benchmarks.model.fit --photos 'photos/*.jpg' --synthetic out/held_open --save

Photos have no 3D truth: their rows say how far projected keypoints lie from the detector's points, in % of the face's longer side.
Synthetic samples are seen through the detector like photos; their rows compare meshes with the true ones. A cell without truth stays empty.
`with depth`: the fit is told the scene's depth at its 89 points as a network would give it, as disparity with noise and the gap too wide.
`true points`: the labelled 2D points stand for the detector's; what then is wrong is no fault of the detector.
"""

from __future__ import annotations

import glob
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import tyro

from benchmarks.results import Figure, save_figures
from handface.model.bodies import load_body
from handface.model.bodies.names import FACE_KEYPOINTS
from handface.model.fitting.distance import FitSurface
from handface.model.fitting.flesh import closed_faces
from handface.model.fitting.people import FitPicture
from handface.model.fitting.quality import guess_residuals
from handface.model.prediction.prediction import CONTACT_PROBABILITY, Detection, Person, PointDepth, WeakCamera
from handface.pipeline.contract.sample import LEFT, Labels
from handface.pipeline.contract.shards import iter_samples
from handface.trainers.evaluation.points import place_at_rest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handface.model.prediction.predictor import Predictor

DEEP = TOUCH = 0.005  # metres: the paper's thresholds of collision and touch
NOISE = 0.005  # metres, of depth that stands for a network's


@dataclass(frozen=True)
class Config:
    """What is measured."""

    photos: str = ""
    """Photos, a glob."""
    synthetic: tuple[str, ...] = ()
    """Folders of synthetic shards."""
    model: str = "dice-m"
    """Network whose guess is fitted."""
    limit: int = 300
    """Samples per folder and photos at most."""
    save: bool = False
    """Write the figures to docs/results/fit.csv and the tables of its page."""


@dataclass(frozen=True)
class Seen:
    """One person: as the network says, fitted, and as a mean body placed by a similarity; of which picture.

    told: the same person where depth, the labelled points or both are told, by system; only with a truth.
    """

    name: str
    bare: Person
    fitted: Person
    mean: Person
    picture: FitPicture
    truth: Labels | None = None
    told: dict[str, Person] = field(default_factory=dict)


def main(config: Config) -> None:
    """Measure and print; write the CSV."""
    torch.set_num_threads(1)
    predictor = _predictor(config.model)
    rows: list[dict[str, object]] = []
    if config.photos:
        paths = sorted(glob.glob(config.photos))[: config.limit]  # noqa: PTH207
        seen = list(look(predictor, _photos(paths)))
        rows += two_dimensional("photos", seen)
        rows += speed(predictor, seen)
    for folder in config.synthetic:
        seen = list(look(predictor, _samples(folder, config.limit)))
        rows += two_dimensional(Path(folder).name, seen)
        rows += three_dimensional(Path(folder).name, seen)
    for row in rows:
        print("  ".join(f"{name} {_text(value)}" for name, value in row.items()))
    if config.save:
        save_figures("fit", list(figures(rows)))


def figures(rows: list[dict[str, object]]) -> Iterator[Figure]:
    """Rows as figures `table | row | column`; what has no truth is left out."""
    for row in rows:
        table = "speed" if "CPU ms" in row else "meshes" if "pve mm" in row else "keypoints"
        for name, value in row.items():
            if name not in ("data", "system") and value is not None:
                yield Figure(f"{table} | {row['data']}, {row['system']} | {name}", _text(value))


def look(predictor: Predictor, pictures: Iterator[tuple[str, NDArray[np.uint8], Labels | None]]) -> Iterator[Seen]:
    """Detect, predict and fit; pictures in which nobody is found are left out."""
    assert predictor.fitter is not None
    fitter = predictor.fitter
    for name, image, truth in pictures:
        predictor.fitter = None
        people = predictor.predict(image).persons
        given = predict_true_points(predictor, image, truth) if people and truth is not None else None
        predictor.fitter = fitter
        if not people:
            continue
        picture = FitPicture(image.shape[1], image.shape[0])
        bare, told = people[0], {}
        if truth is not None and given is not None:
            told = {
                "fitted with depth": fitter.fit([with_depth(bare, truth)], [picture])[0],
                "true points, bare": given,
                "true points, fitted": fitter.fit([given], [picture])[0],
                "true points, fitted with depth": fitter.fit([with_depth(given, truth)], [picture])[0],
            }
        yield Seen(name, bare, fitter.fit([bare], [picture])[0], mean_bodies(bare), picture, truth, told)


def predict_true_points(predictor: Predictor, image: NDArray[np.uint8], truth: Labels) -> Person:
    """The first person that the detector finds, with the labelled 2D points in place of its own; landmarks in metres stay the detector's."""
    detector = predictor.detector

    def labelled(picture: NDArray[np.uint8]) -> list[Detection]:
        found = detector(picture)[0]
        assert truth.face_keypoints_2d is not None and truth.hand_keypoints_2d is not None
        face = np.column_stack([truth.face_keypoints_2d[:, :2], found.face[:, 2]]).astype(np.float32)
        hand = np.column_stack([truth.hand_keypoints_2d[0, :, :2], found.hand[:, 2]]).astype(np.float32)
        return [replace(found, face=face, hand=hand)]

    predictor.detector = labelled
    try:
        return predictor.predict(image).persons[0]
    finally:
        predictor.detector = detector


def with_depth(person: Person, truth: Labels) -> Person:
    """The person with the scene's depth as a network would see it: 5 mm of noise, the gap to the face a quarter too wide, disparity."""
    assert person.detection is not None
    values = np.array(next(iter(truth.keypoint_depth.values())).values, np.float32)
    known = values[:, 1] > 0
    face = values[:FACE_KEYPOINTS, 0][known[:FACE_KEYPOINTS]].mean() if known[:FACE_KEYPOINTS].any() else 0.0
    noise = np.random.default_rng(zlib.crc32(np.asarray(truth.hand_keypoints_3d).tobytes())).normal(
        0, NOISE, len(values)
    )
    depth = face + (values[:, 0] - face) * np.where(np.arange(len(values)) < FACE_KEYPOINTS, 1, 1.25) + noise
    values[:, 0] = np.where(known, 100 / np.maximum(depth, 0.05) - 20, 0)
    return replace(person, detection=replace(person.detection, depth=PointDepth(values, inverse=True)))


def mean_bodies(person: Person) -> Person:
    """Mean hand and head at rest, each moved, turned in the picture and scaled onto the detected points by a similarity."""
    assert person.detection is not None
    parts = {}
    for kind, points in (("hand", person.detection.hand), ("head", person.detection.face)):
        body = load_body(f"free-{kind}", "free", side=person.side if kind == "hand" else "right")
        vertices, keypoints, _ = (value[0].numpy() for value in place_at_rest(body, torch.from_numpy(points)[None]))
        still = np.zeros_like(vertices)
        parts[kind] = replace(getattr(person, kind), vertices=vertices, keypoints_3d=keypoints, deformation=still)
    return replace(person, **parts, camera=WeakCamera(1.0, 0.0, 0.0), fit=None)  # already in pixels


def two_dimensional(name: str, seen: list[Seen]) -> list[dict[str, object]]:
    """Distance of projected keypoints from the detector's, % of the face; all people, and on photos of touch only those."""
    groups = {name: seen}
    if touching := [one for one in seen if one.name.startswith("touch")]:
        groups[f"{name}, touching"] = touching
    rows = []
    for group, members in groups.items():
        for system in ("bare", "fitted", "mean"):
            off = np.stack([guess_residuals(getattr(one, system)) for one in members]) * 100
            head, hand = np.nanmean(off[:, :68], 1), np.nanmean(off[:, 68:], 1)
            rows.append(
                {
                    "data": group, "system": system, "people": len(members),
                    "head 2D %": head.mean(), "hand 2D %": hand.mean(),
                    "head 2D median %": np.median(head), "hand 2D median %": np.median(hand),
                }
            )  # fmt: skip
    return rows


def three_dimensional(name: str, seen: list[Seen]) -> list[dict[str, object]]:
    """PVE*, contact and plausibility against the true meshes, mm and %."""
    rows = []
    known = [({"bare": one.bare, "fitted": one.fitted} | one.told, one.truth) for one in seen if one.truth is not None]
    for system in known[0][0]:
        facts = [compare(people[system], truth) for people, truth in known]
        mean = {key: float(np.mean([fact[key] for fact in facts])) for key in facts[0]}
        row: dict[str, object] = {"data": name, "system": system, "people": len(facts)}
        row |= {f"{key} mm": 1000 * mean[key] for key in ("pve", "pve_head", "pve_hand", "hand_z", "collision")}
        for part in ("hand", "head"):
            row[f"f1_{part} %"] = 100 * np.mean([fact[f"f1_{part}"] for fact in facts if fact["true_touch"]])
        touching = [fact["touches"] for fact in facts if fact["true_touch"]]
        free, touch = 100 * mean["free"], 100 * float(np.mean(touching))
        row |= {"non_col %": free, "touchness %": touch, "plausible F %": 2 * free * touch / max(free + touch, 1e-9)}
        row["presence AUC"] = auc([fact["presence"] for fact in facts], [fact["true_touch"] for fact in facts])
        rows.append(row)
    return rows


def compare(person: Person, labels: Labels) -> dict[str, float]:
    """One person against the truth. Metres."""
    side = "left" if labels.hand_side is not None and labels.hand_side[0] == LEFT else "right"
    hand, head, deformed = true_meshes(labels, side)
    origin = deformed.mean(0)
    here = person.head.vertices + person.head.deformation
    mine = person.head.vertices - here.mean(0)
    fingers = person.hand.vertices - here.mean(0)
    errors = np.linalg.norm(mine - (deformed - origin), axis=1), np.linalg.norm(fingers - (hand - origin), axis=1)
    faces = closed_faces(load_body("free-head", "free").arrays)
    depth = -FitSurface(person.head.vertices, faces).signed_distance(person.hand.vertices, candidates=12)
    true_hand = np.unpackbits(labels.hand_contact)[: len(hand)].astype(bool)
    true_head = np.unpackbits(labels.head_contact)[: len(head)].astype(bool)
    true_depth = -FitSurface(deformed, faces).signed_distance(hand, candidates=12)
    return {
        "pve": float(np.concatenate(errors).mean()),
        "pve_head": float(errors[0].mean()),
        "pve_hand": float(errors[1].mean()),
        "hand_z": abs(float((fingers - (hand - origin)).mean(0)[2])),
        "f1_hand": f1(person.hand.contact > CONTACT_PROBABILITY, true_hand),
        "f1_head": f1(person.head.contact > CONTACT_PROBABILITY, true_head),
        "collision": float(np.clip(depth, 0, None).mean()),
        "free": float((depth < DEEP).all()),
        "touches": float((np.abs(depth) <= TOUCH).any()),
        "true_touch": float((np.abs(true_depth) <= TOUCH).any()),
        "presence": person.presence,
    }


def true_meshes(labels: Labels, side: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Hand (Vh, 3), undeformed and deformed head (Vf, 3) of a sample, metres, camera axes."""

    def given(kind: str) -> dict[str, torch.Tensor]:
        names = ("betas", "pose", "global_orient", "transl", *(("expression",) if kind == "head" else ()))
        return {name: torch.tensor(np.array(getattr(labels, f"{kind}_{name}"))).reshape(1, -1) for name in names}

    hand = load_body("free-hand", "free", side=side)(**given("hand")).vertices[0].double().numpy()
    posed = load_body("free-head", "free")(**given("head"))
    head, rigid = posed.vertices[0].double().numpy(), posed.rigid[0].double().numpy()
    moved = np.zeros_like(head)
    if labels.head_deformation_rows is not None and labels.head_deformation is not None:
        moved[labels.head_deformation_rows] = labels.head_deformation.astype(np.float64)
    return hand, head, head + moved @ rigid[:3, :3].T


def speed(predictor: Predictor, seen: list[Seen], batch: int = 16) -> list[dict[str, object]]:
    """CPU milliseconds of the fit per person, one thread: one at a time, and in batches."""
    assert predictor.fitter is not None
    fitter, people = predictor.fitter, seen[: 2 * batch]
    rows: list[dict[str, object]] = []
    for size in (1, batch):
        start = time.process_time()
        for first in range(0, len(people), size):
            some = people[first : first + size]
            fitter.fit([one.bare for one in some], [one.picture for one in some])
        spent = 1000 * (time.process_time() - start) / len(people)
        rows.append({"data": "photos", "system": f"fit, {size} at once", "people": len(people), "CPU ms": spent})
    return rows


def f1(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Harmonic mean of precision and recall; 1 where both sets are empty."""
    total = int(found.sum() + true.sum())
    return 2 * int((found & true).sum()) / total if total else 1.0


def auc(scores: list[float], positive: list[float]) -> float | None:
    """Chance that a positive scores above a negative; None where one of them is missing."""
    values, chosen = np.array(scores), np.array(positive) > 0.5
    if chosen.all() or not chosen.any():
        return None
    above = values[chosen][:, None] - values[~chosen][None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def _predictor(model: str) -> Predictor:
    from handface.predict.build import PredictorOptions, build_predictor
    from handface.predict.people import PeopleDetector

    return build_predictor(PredictorOptions(model=model, device="cpu"), PeopleDetector())


def _photos(paths: list[str]) -> Iterator[tuple[str, NDArray[np.uint8], Labels | None]]:
    from handface.predict.inputs import PhotoReader

    reader = PhotoReader()
    for path in paths:
        yield Path(path).name, reader(path), None


def _samples(folder: str, limit: int) -> Iterator[tuple[str, NDArray[np.uint8], Labels | None]]:
    import simplejpeg

    samples = (sample for tar in sorted(Path(folder).rglob("*.tar")) for sample in iter_samples(str(tar)))
    for sample in islice(samples, limit):
        yield sample.key, np.asarray(simplejpeg.decode_jpeg(sample.image, "RGB")), sample.labels


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float | np.floating) else str(value)


if __name__ == "__main__":
    main(tyro.cli(Config))
