"""Samples per second of one core: our loader against the obvious webdataset pipeline, on the same pictures and labels.

python -m benchmarks.trainers.loader --save

The obvious pipeline: tars of jpg + npz + json in WebDataset, a shuffle buffer, cv2.imdecode, np.load, one warp to 224 px, the same
colour operations, stacked into tensors. Ours: tars of jpg + safetensors + json, offset index, scaled decoding. Each case runs in
a process of its own, in turn, with one thread and glibc's malloc told to keep its memory (which helps OpenCV, not us).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Figure, report

SIDE, SIZE, BATCH = 512, 224, 32
CASES = ("webdataset", "ours")
LABELS = ("2d", "full")
QUIET = {
    "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
}


# --- data: the same samples twice ---


def make_picture(rng: np.random.Generator) -> bytes:
    """A 512 px JPEG of about 55 kB: smooth shapes and some grain."""
    import cv2
    import simplejpeg

    coarse = [
        cv2.resize(rng.normal(0, 60 / n, (4 * n, 4 * n, 3)), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        for n in (1, 4, 16)
    ]
    image = np.clip(128 + sum(coarse) + rng.normal(0, 5.0, (SIDE, SIDE, 1)), 0, 255).astype(np.uint8)
    return simplejpeg.encode_jpeg(image, 85, colorspace="RGB", colorsubsampling="420")


def make_labels(rng: np.random.Generator, full: bool) -> Any:
    """Random labels: 2D keypoints, sides, visibility and depth; `full`: also those of the free bodies in 3D."""
    from handface.pipeline.contract.sample import KeypointDepth, Labels

    def numbers(*shape: int) -> np.ndarray:
        return rng.uniform(0.1, 1, shape).astype(np.float32)

    points = {
        "face_keypoints_2d": numbers(68, 3) * np.float32([SIDE, SIDE, 1]),
        "hand_keypoints_2d": numbers(1, 21, 3) * np.float32([SIDE, SIDE, 1]),
        "hand_side": rng.integers(0, 2, 1, dtype=np.uint8),
        "keypoint_visibility": rng.integers(0, 2, 89, dtype=np.uint8),
        "keypoint_depth": {"toy": KeypointDepth(numbers(89, 2), "affine")},
    }
    if not full:
        return Labels(**points)
    return Labels(
        **points,
        hand_betas=numbers(10), hand_pose=numbers(15, 3), hand_global_orient=numbers(3), hand_transl=numbers(3),
        hand_keypoints_3d=numbers(21, 3), hand_contact=rng.integers(0, 256, (1609 + 7) // 8, dtype=np.uint8),
        head_betas=numbers(100), head_expression=numbers(51), head_pose=numbers(4, 3), head_global_orient=numbers(3),
        head_transl=numbers(3), head_keypoints_3d=numbers(68, 3), head_contact=rng.integers(0, 256, 543, dtype=np.uint8),
        head_deformation_rows=np.arange(200, dtype=np.int32), head_deformation=numbers(200, 3).astype(np.float16),
        camera_intrinsics=numbers(3, 3), hand_model="free-hand", head_model="free-head",
    )  # fmt: skip


def write_data(folder: Path, samples: int, per_shard: int) -> float:
    """folder/<case>/<labels>/NNNN.tar. Returns the mean size of a picture, bytes."""
    from handface.pipeline.contract.sample import encode_labels, sample_key

    rng = np.random.default_rng(0)
    pictures = [make_picture(rng) for _ in range(samples)]
    meta = json.dumps(
        {"schema_version": "1.0", "source": {"uri": "x" * 60, "licence": "CC0-1.0"}, "scores": [0.5] * 8}
    ).encode()
    for kind in LABELS:
        for start in range(0, samples, per_shard):
            paths = {case: folder / case / kind / f"{start // per_shard:04d}.tar" for case in CASES}
            for path in paths.values():
                path.parent.mkdir(parents=True, exist_ok=True)
            with tarfile.open(paths["ours"], "w") as tar, tarfile.open(paths["webdataset"], "w") as plain:
                for picture in pictures[start : start + per_shard]:
                    labels, key = make_labels(rng, kind == "full"), sample_key(picture)
                    _add(tar, key, {"jpg": picture, "json": meta, "safetensors": encode_labels(labels)})
                    _add(plain, key, {"jpg": picture, "json": meta, "npz": _as_npz(labels)})
    return float(np.mean([len(picture) for picture in pictures]))


def _as_npz(labels: Any) -> bytes:
    from handface.pipeline.contract.sample import TENSOR_FIELDS

    arrays = {name: value for name in TENSOR_FIELDS if (value := getattr(labels, name)) is not None}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, keypoint_depth=labels.keypoint_depth["toy"].values)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, key: str, members: dict[str, bytes]) -> None:
    for extension, data in members.items():
        info = tarfile.TarInfo(f"{key}.{extension}")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


# --- the two loaders ---


def ours(folder: Path) -> Iterator[Any]:
    from handface.trainers.data import DataConfig, DatasetConfig, make_loader

    config = DataConfig(
        (DatasetConfig("all", (str(folder),)),),
        image_size=SIZE,
        batch_size=BATCH,
        workers=0,
        index_folder=str(folder / "index"),
    )
    return iter(make_loader(config))


def webdataset(folder: Path) -> Iterator[Any]:
    import webdataset as wds

    shards = sorted(str(path) for path in folder.glob("*.tar"))
    dataset = wds.WebDataset(shards, shardshuffle=len(shards), seed=0).repeat().shuffle(500, rng=random.Random(0))
    return iter(dataset.map(_obvious_sample(np.random.default_rng(0))).batched(BATCH, collation_fn=_stack))


def _obvious_sample(rng: np.random.Generator) -> Callable[[dict[str, Any]], dict[str, np.ndarray]]:
    """Decode, mirror left hands, vary, and move the keypoints, as a careful person would write it on a first day."""
    import cv2

    from handface.model.bodies.names import IBUG_MIRROR
    from handface.trainers.data.augment.colour import vary_colour
    from handface.trainers.data.config import COLOUR_OPERATIONS

    mirror = list(IBUG_MIRROR)

    def make(sample: dict[str, Any]) -> dict[str, np.ndarray]:
        image = cv2.cvtColor(cv2.imdecode(np.frombuffer(sample["jpg"], np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        json.loads(sample["json"])
        with np.load(io.BytesIO(sample["npz"]), allow_pickle=False) as stored:
            labels = {name: stored[name] for name in stored.files}
        labels["hand_keypoints_2d"] = labels["hand_keypoints_2d"][0]
        left = labels.pop("hand_side")[0] == 0
        scale = SIZE / len(image)
        matrix = cv2.getRotationMatrix2D(
            (len(image) / 2, len(image) / 2), rng.uniform(-30, 30), scale * rng.uniform(0.75, 1.25)
        )
        matrix[:, 2] += SIZE / 2 - len(image) / 2 + rng.uniform(-0.05, 0.05, 2) * SIZE
        if left:
            matrix = matrix @ np.array([[-1, 0, len(image) - 1], [0, 1, 0], [0, 0, 1.0]])
        image = cv2.warpAffine(image, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
        for name in ("face_keypoints_2d", "hand_keypoints_2d"):
            points = labels[name].copy()
            points[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
            labels[name] = points[mirror] if left and name.startswith("face") else points
        if rng.random() < 0.8:
            image = vary_colour(image, COLOUR_OPERATIONS[int(rng.integers(6))], rng)
        labels["image"] = image.transpose(2, 0, 1)
        for part, count in (("hand", 1609), ("head", 4344)):
            if f"{part}_contact" in labels:
                labels[f"{part}_contact"] = np.unpackbits(labels[f"{part}_contact"], count=count).astype(np.float32)
        if (rows := labels.pop("head_deformation_rows", None)) is not None:
            dense = np.zeros((4344, 3), np.float32)
            dense[rows] = labels["head_deformation"]
            labels["head_deformation"] = dense
        return labels

    return make


def _stack(samples: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    import torch

    names = [name for name in samples[0] if not name.startswith("__")]
    return {name: torch.from_numpy(np.stack([sample[name] for sample in samples])) for name in names}


# --- measuring ---


def measure(case: str, folder: Path, batches: int) -> float:
    """CPU milliseconds per sample of this process, after a warm-up that also fills the page cache and the shuffle buffer."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    loader = {"ours": ours, "webdataset": webdataset}[case](folder)
    for _ in range(max(2, batches // 4)):
        next(loader)
    start = time.process_time()
    for _ in range(batches):
        next(loader)
    return (time.process_time() - start) / (batches * BATCH) * 1e3


def compare(folder: Path, kind: str, batches: int, repeats: int) -> dict[str, list[float]]:
    """CPU milliseconds per sample of each case, one fresh process per figure, cases in turn."""
    found: dict[str, list[float]] = {case: [] for case in CASES}
    for _ in range(repeats):
        for case in CASES:
            command = [
                sys.executable,
                "-m",
                "benchmarks.trainers.loader",
                "--measure",
                case,
                str(folder / case / kind),
                str(batches),
            ]
            output = subprocess.run(
                command, env=os.environ | QUIET, check=True, stdout=subprocess.PIPE, text=True
            ).stdout
            found[case].append(float(output.strip().splitlines()[-1]))
            print(f"{kind:5s} {case:11s} {found[case][-1]:.3f} ms/sample", flush=True)
    return found


NAMES = {
    "webdataset": "webdataset: cv2, npz + json, shuffle buffer",
    "ours": "trainers.data: simplejpeg, safetensors, tar index",
}


def figures_of(kind: str, found: dict[str, list[float]]) -> list[Figure]:
    """The rows of one kind of labels: medians (least to most) over fresh processes."""
    base, figures = statistics.median(found["webdataset"]), []
    for case in CASES:
        middle, row = statistics.median(found[case]), f"labels | {kind}, {NAMES[case]}"
        spread = f"{middle:.2f} ({min(found[case]):.2f} to {max(found[case]):.2f})"
        figures += [
            Figure(f"{row} | CPU ms per sample", spread),
            Figure(f"{row} | samples/s per core", f"{1e3 / middle:,.0f}"),
            Figure(f"{row} | ratio", f"{base / middle:.2f}"),
        ]
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--batches", type=int, default=60, help="batches that are timed in each process")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write the figures to docs/results/loader.csv and its page")
    parser.add_argument("--measure", nargs=3, metavar=("CASE", "FOLDER", "BATCHES"), help="one figure, in this process")
    arguments = parser.parse_args()
    if arguments.measure:
        case, folder, batches = arguments.measure
        print(measure(case, Path(folder), int(batches)))
        return
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as name:
        size = write_data(Path(name), arguments.samples, per_shard=max(50, arguments.samples // 8))
        for kind in LABELS:
            figures += figures_of(kind, compare(Path(name), kind, arguments.batches, arguments.repeats))
    packages = ("webdataset", "simplejpeg", "opencv-contrib-python", "torch")
    print(f"{size / 1e3:.0f} kB a picture; " + ", ".join(f"{one} {version(one)}" for one in packages))
    report("loader", figures, arguments.save)


if __name__ == "__main__":
    main()
