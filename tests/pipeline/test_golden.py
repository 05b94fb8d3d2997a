"""The bytes of one synthetic unit and of one annotated part with fixed detections: equal inputs give equal parts, also next year.

The sums are of the tar alone; a table's bytes depend on pyarrow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.contract.parts import FinishedPart, read_parts
from handface.pipeline.engine.executor import execute
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.run import prepare
from handface.pipeline.engine.stage import Stage
from handface.pipeline.stages.contact import ContactStage
from handface.pipeline.stages.crop import CropStage
from handface.pipeline.stages.decode import DecodeStage
from handface.pipeline.stages.depth import DepthStage
from handface.pipeline.stages.filters.dedupe import DedupeStage
from handface.pipeline.stages.filters.quality import QualityStage
from handface.pipeline.stages.keypoints import KeypointsStage
from handface.pipeline.stages.pack import PackStage
from handface.pipeline.stages.read import ReadStage
from handface.pipeline.stages.recipe import AnnotateConfig
from handface.pipeline.synthesis.make import PictureConfig, SynthesisConfig, SynthesizeStage, list_scenes
from tests.pipeline.people import face_at, hand_at

RAISE = (
    "other bytes for the same input: raise VERSION ({}) and say why in CHANGELOG.md, or mend what changed them; now {}"
)
SYNTHETIC = "99dbbb1e528421b7e8f0e5c92d5ac5b83a8a6bee2b58993540cda163db020d40"
ANNOTATED = "8a01f58e253e9aa6381d1635cff519e10b09f079f2161aed43459af46b8cac5b"


class FixedDetections(Stage):
    """The same person in every photo, instead of networks."""

    name, reads, writes = "detect", ("image",), ("faces", "hands", "skin", "annotators")

    def __call__(self, batch: Sequence[Record]) -> None:
        for record in batch:
            record.faces, record.hands = [face_at(320, 200, 900.0)], [hand_at(320, 250, 900.0, "left")]


def part_of(output: Path, config, items: list[SourceItem], stages: list[Stage]) -> FinishedPart:
    run = prepare(["golden"], config, str(output), list_inputs=lambda: items, stages=lambda c, d: stages)
    assert [result.error for result in execute(run, workers=1, local=True)] == [None]
    (part,) = read_parts(str(output))
    return part


def tar_sum(part: FinishedPart) -> str:
    return hashlib.sha256(Path(part.uri("tar")).read_bytes()).hexdigest()


def test_a_synthetic_unit_has_the_bytes_it_always_had(tmp_path: Path) -> None:
    config = SynthesisConfig(size=96, pictures=PictureConfig(supersample=1))
    part = part_of(tmp_path, config, list(list_scenes(config, 2)), [SynthesizeStage(config)])
    assert part.manifest.kept == 2
    found = tar_sum(part)
    assert found == SYNTHETIC, RAISE.format("pipeline/synthesis/make.py", found)


def test_an_annotated_part_has_the_bytes_it_always_had(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).resize((640, 480), Image.Resampling.NEAREST)
        grain = rng.integers(-6, 7, (480, 640, 3))
        Image.fromarray(np.clip(np.asarray(coarse, np.int16) + grain, 0, 255).astype(np.uint8)).save(
            photos / f"{seed}.png"
        )
    items = [
        SourceItem(f"golden/{path.name}", columns=(("author", "A"), ("licence", "CC0")))
        for path in sorted(photos.iterdir())
    ]

    class ReadHere(ReadStage):
        """The bytes lie elsewhere than the item says, so that sums do not hold a folder's name."""

        def __call__(self, batch: Sequence[Record]) -> None:
            for record in batch:
                record.data = (photos / Path(record.item.uri).name).read_bytes()
                record.sha256 = hashlib.sha256(record.data).hexdigest()

    stages = [
        ReadHere(),
        DecodeStage(),
        DedupeStage(),
        QualityStage(),
        FixedDetections(),
        ContactStage(),
        KeypointsStage(),
    ]
    stages += [CropStage(), DepthStage(), PackStage(fetched_at="2026-01-01")]
    part = part_of(tmp_path / "out", AnnotateConfig(), items, stages)
    assert part.manifest.kept == 3, part.rows(["reason", "detail"]).to_pylist()
    found = tar_sum(part)
    assert found == ANNOTATED, RAISE.format("the stage's version", found)
