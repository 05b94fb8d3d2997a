"""The page of stages is printed from the declarations, and the declarations are what the stages do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest

from handface.pipeline.contract.inputs import SourceItem
from handface.pipeline.engine.record import Record
from handface.pipeline.engine.stage import Stage
from handface.pipeline.stages.detect import DetectConfig
from handface.pipeline.stages.recipe import AnnotateConfig, build_stages
from handface.pipeline.stages.table import page

PAGE = Path(__file__).parents[3] / "docs" / "stages.md"
_END = {"reason", "detail", "stage", "item", "sample", "evidence"}


def test_the_page_is_what_the_declarations_say() -> None:
    assert PAGE.read_text() == page(), "run: python -m handface.pipeline.stages.table > docs/stages.md"


class WatchedRecord(Record):
    """A record that notes which of its fields are read and set."""

    def __getattribute__(self, name: str) -> object:
        if name in _NAMES:
            object.__getattribute__(self, "touched").add(name)
        return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: object) -> None:
        if name in _NAMES:
            self.__dict__.setdefault("touched", set()).add(name)
        object.__setattr__(self, name, value)


_NAMES = {field.name for field in fields(Record)}


@pytest.mark.slow
def test_stages_touch_only_what_they_declare(tmp_path: Path) -> None:
    from skimage import data

    from tests.pipeline.images import encode

    (tmp_path / "a.jpg").write_bytes(encode(data.astronaut()))
    config = AnnotateConfig(detect=DetectConfig(segmenter="off"))
    record = WatchedRecord(SourceItem(str(tmp_path / "a.jpg")))
    seen = []
    for stage in build_stages(config, day="2026-01-01"):
        stage.setup()
        stage.start_unit()
        if not record.alive:
            break
        check(stage, [record])
        seen.append(stage.name)
        stage.close()
    assert seen[:6] == ["read", "decode", "dedupe", "quality", "nsfw", "detect"]


def check(stage: Stage, batch: Sequence[Record]) -> None:
    for record in batch:
        record.__dict__["touched"] = set()
    stage(batch)
    declared = {*stage.reads, *stage.writes, *stage.drops} | _END
    for record in batch:
        touched = set(record.__dict__["touched"])
        if not record.alive:  # what `reject` frees
            touched -= {"data", "image", "crop", "skin", "packed", "depth_maps"}
        assert touched <= declared, f"{stage.name} touches {sorted(touched - declared)}"
