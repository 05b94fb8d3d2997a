"""Fixtures for all rooms: a quiet Ray, and small synthetic samples that keep the contract."""

from __future__ import annotations

import os
import re
import sys
import tarfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from handface.pipeline.contract.sample import (
    AnnotatorRecord,
    Crop,
    KeypointDepth,
    Labels,
    Sample,
    SampleMeta,
    Scores,
    Source,
    encode,
    sample_key,
)
from handface.pipeline.engine.cluster import keep_to_loopback

# Before anything imports ray: sockets on loopback, no usage statistics, and no token file in the home directory of whoever runs the tests.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
keep_to_loopback()
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
# Threads of several networks in several processes only wait for each other, and take the time of both while they do.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Images of containers often switch it on; then every process that a test starts, Ray's workers among them, compiles the whole package.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@cache
def _on_ray(path: Path) -> bool:
    """Whether a file's tests use the small Ray cluster; `ray_cluster.yaml` is another thing."""
    return re.search(r"\bray_cluster\b(?!\.yaml)", path.read_text()) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side (pytest -n 2), what shares the Ray cluster and files with slow tests go first, so that no worker is left with one at the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (not _on_ray(item.path), item.path not in slow))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file at a time, as `--dist loadfile` says, but all that use the small Ray cluster on one worker: there is one then, not two."""
    from xdist.scheduler import LoadFileScheduling

    class OneCluster(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            return "ray" if _on_ray(config.rootpath / scope) else scope

    return OneCluster(config, log) if config.getoption("dist") == "loadfile" else None


MakeSample = Callable[..., Sample]


def _jpeg(rng: np.random.Generator, side: int) -> bytes:
    low = Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8))
    buffer = BytesIO()
    low.resize((side, side), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _depth_png(side: int) -> bytes:
    ramp = np.linspace(0, 65535, side * side).reshape(side, side).astype(np.uint16)
    info = PngInfo()
    info.add_text("offset", "0.5")
    info.add_text("scale", "0.001")
    buffer = BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def make_sample() -> MakeSample:
    """make_sample(seed, side=128, depth=True, **source) -> a wild-like Sample with one right hand; equal seeds, equal bytes."""

    def make(seed: int, side: int = 128, depth: bool = True, **source: object) -> Sample:
        rng = np.random.default_rng(seed)
        image = _jpeg(rng, side)
        angle = np.linspace(0, 2 * np.pi, 68)
        face = np.stack([side * (0.45 + 0.25 * np.cos(angle)), side * (0.4 + 0.3 * np.sin(angle)), np.ones(68)], -1)
        hand = np.concatenate([rng.uniform(0.5, 0.9, (1, 21, 2)) * side, rng.uniform(0.5, 1, (1, 21, 1))], -1)
        values = np.stack([rng.uniform(0, 5, 89), np.ones(89)], -1).astype(np.float32)
        labels = Labels(
            face_keypoints_2d=face.astype(np.float32),
            hand_keypoints_2d=hand.astype(np.float32),
            hand_side=np.array([1], np.uint8),
            keypoint_visibility=np.ones(89, np.uint8),
            keypoint_depth={"toy": KeypointDepth(values, "affine-inverse")},
        )
        fields = {"uri": f"photos/{seed:05d}.jpg", "sha256": f"{seed:064x}", "phash": f"{seed:016x}"} | source
        meta = SampleMeta(
            key=sample_key(image),
            source=Source(**fields),  # type: ignore[arg-type]
            crop=Crop(((2.0, 0.0, 10.0), (0.0, 2.0, 20.0), (0.0, 0.0, 1.0)), side, 640, 480),
            scores=Scores(*rng.uniform(0.2, 1, 5), None, float(rng.uniform(10, 900))),
            annotators=(AnnotatorRecord("toy", "face_keypoints", "1", "0" * 64, "CC0-1.0", {"score": 0.5}),),
        )
        return Sample(image, labels, meta, _depth_png(side) if depth else None)

    return make


@pytest.fixture(scope="session")
def write_tar() -> Callable[[Path, Iterable[tuple[str, Mapping[str, bytes]] | Sample]], Path]:
    """write_tar(path, samples): a plain shard of Samples, or of (key, {extension: bytes}) to build wrong ones."""

    def write(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]] | Sample]) -> Path:
        with tarfile.open(path, "w") as tar:
            for sample in samples:
                key, members = (sample.key, encode(sample)) if isinstance(sample, Sample) else sample
                for extension, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, BytesIO(data))
        return path

    return write
