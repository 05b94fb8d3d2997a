"""The reading examples that we give to others, run as they stand: depth comes out with its 16 bits."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest

from handface.pipeline.contract.images.depth_map import encode_depth_png
from handface.pipeline.contract.sample import decode, encode, sample_key
from handface.pipeline.export.release import release
from tests.pipeline.export.releases import CONFIG, record, write_parts
from tests.pipeline.images import encode as encode_image
from tests.pipeline.images import photo

DOCS = Path(__file__).parents[3] / "docs" / "sample_format.md"


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A release of 6 real pictures with depth maps, and the maps' codes by key."""
    import cv2

    root, records, codes = tmp_path_factory.mktemp("deep"), [], {}
    for number in range(6):
        one = record(number, "a.org")
        sample = one.sample
        side = sample.meta.crop.size
        ramp = np.linspace(1, 2 + number, side * side, dtype=np.float32).reshape(side, side)
        jpg = encode_image(photo(side, side, number))
        meta = dataclasses.replace(sample.meta, key=sample_key(jpg))
        one.sample = dataclasses.replace(sample, image=jpg, meta=meta, depth_png=encode_depth_png(ramp))
        codes[one.sample.key] = cv2.imdecode(np.frombuffer(one.sample.depth_png, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decode(encode(one.sample)).key == one.sample.key
        records.append(one)
    release(
        [write_parts(root / "parts", records)], str(root / "out"), dataclasses.replace(CONFIG, splits={"train": 1.0})
    )
    assert {found.dtype for found in codes.values()} == {np.dtype(np.uint16)} and max(
        c.max() for c in codes.values()
    ) > 60_000
    return root, codes


def example(text: str, heading: str) -> str:
    found = re.search(rf"{heading}\n.*?```python\n(.*?)```", text, re.DOTALL)
    assert found, heading
    return found[1]


def check(depth: object, code: np.ndarray) -> None:
    assert isinstance(depth, np.ndarray) and depth.dtype == np.uint16
    np.testing.assert_array_equal(depth, code)


def test_the_cards_example(deep, monkeypatch) -> None:
    root, codes = deep
    monkeypatch.chdir(root / "out")
    names: dict = {}
    exec(example((root / "out" / "README.md").read_text(), "## How to read it"), names)
    samples = list(names["dataset"])
    assert samples
    for sample in samples:
        check(sample["depth.png"], codes[sample["__key__"]])
        assert sample["jpg"].dtype == np.uint8 and sample["jpg"].shape[2] == 3


@pytest.mark.parametrize(
    "heading", ["### With stock webdataset", "### With Hugging Face datasets", "### With Ray Data"]
)
def test_the_examples_of_the_format(deep, monkeypatch, tmp_path, heading: str) -> None:
    root, codes = deep
    (tmp_path / "out").symlink_to(root)
    monkeypatch.chdir(tmp_path)
    os.environ.setdefault("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    # Ray's workers may have been started in another folder
    lines = example(DOCS.read_text(), heading).replace('"out/', f'"{tmp_path}/out/')
    key = 'sample["__key__"]' if "sample in dataset" in lines else 'row["__key__"]'
    names: dict = {"found": {}}
    exec(f"{lines}    found[{key}] = depth\n", names)
    assert names["found"].keys() == codes.keys()
    for name, depth in names["found"].items():
        check(depth, codes[name])
