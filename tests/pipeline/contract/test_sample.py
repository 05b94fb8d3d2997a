"""The sample contract: there and back, byte-stable, readable by stock libraries, and strict about what it does not know."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from handface.pipeline.contract.sample import (
    DEPTH_KINDS,
    TENSOR_FIELDS,
    KeypointDepth,
    Labels,
    SampleError,
    check_tensors,
    decode,
    decode_labels,
    encode,
    encode_labels,
    json_schema,
    read_tensors,
    sample_key,
)

ROOT = Path(__file__).parents[3]
NUMPY = {"F32": np.float32, "F16": np.float16, "I32": np.int32, "U8": np.uint8}


@st.composite
def labels_strategy(draw: st.DrawFn) -> Labels:
    """Any subset of the labels, with any values, letters of one shape agreeing."""
    sizes = {
        letter: draw(st.integers(0, 4))
        for f in TENSOR_FIELDS.values()
        for letter in f.metadata["shape"]
        if isinstance(letter, str)
    }
    values: dict[str, Any] = {}
    for name in draw(st.sets(st.sampled_from(sorted(TENSOR_FIELDS)))):
        shape = tuple(sizes.get(s, s) for s in TENSOR_FIELDS[name].metadata["shape"])
        dtype = NUMPY[TENSOR_FIELDS[name].metadata["dtype"]]
        values[name] = draw(hnp.arrays(dtype, shape, fill=hnp.from_dtype(np.dtype(dtype))))
    sources = draw(st.dictionaries(st.text("abc-_.", min_size=1), st.sampled_from(DEPTH_KINDS), max_size=2))
    depth = {
        name: KeypointDepth(np.full((89, 2), i, np.float32), kind) for i, (name, kind) in enumerate(sources.items())
    }
    models = draw(st.tuples(st.none() | st.text(max_size=5), st.none() | st.text(max_size=5)))
    return Labels(**values, keypoint_depth=depth, hand_model=models[0], head_model=models[1])


def same(first: Labels, second: Labels) -> bool:
    tensors = all(
        (a is None) == (b is None) and (a is None or (a.dtype == b.dtype and a.tobytes() == b.tobytes()))
        for a, b in ((getattr(first, name), getattr(second, name)) for name in TENSOR_FIELDS)
    )
    depth = {k: (v.kind, v.values.tobytes()) for k, v in first.keypoint_depth.items()} == {
        k: (v.kind, v.values.tobytes()) for k, v in second.keypoint_depth.items()
    }
    return tensors and depth and (first.hand_model, first.head_model) == (second.hand_model, second.head_model)


@settings(max_examples=100, deadline=None)
@given(labels=labels_strategy())
def test_labels_come_back_as_they_went(labels: Labels) -> None:
    blob = encode_labels(labels)
    back = decode_labels(blob)
    assert same(labels, back)
    assert encode_labels(back) == blob


def test_sample_comes_back_as_it_went(make_sample: Any) -> None:
    for sample in (make_sample(3), make_sample(4, depth=False, licence="CC-BY 4.0", columns={"a": "é<b>"})):
        back = decode(encode(sample))
        assert (back.image, back.meta, back.depth_png) == (sample.image, sample.meta, sample.depth_png)
        assert same(back.labels, sample.labels)
        assert back.key == sample_key(back.image)
    bare = replace(sample, meta=replace(sample.meta, scores=None))
    assert decode(encode(bare)).meta.scores is None


def test_equal_samples_give_equal_bytes_in_every_process(make_sample: Any) -> None:
    code = (
        "import hashlib, numpy as np\n"
        "from handface.pipeline.contract.sample import Labels, KeypointDepth, encode_labels\n"
        "depth = {n: KeypointDepth(np.ones((89, 2), np.float32), 'metric') for n in ('b', 'a', 'c')}\n"
        "labels = Labels(hand_side=np.zeros(1, np.uint8), keypoint_depth=depth, hand_model='h', head_model='f')\n"
        "print(hashlib.sha256(encode_labels(labels)).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(digests) == 1
    assert encode(make_sample(5)) == encode(make_sample(5))


@settings(max_examples=50, deadline=None)
@given(labels=labels_strategy())
def test_stock_safetensors_reads_our_blob(labels: Labels) -> None:
    from safetensors.numpy import load

    blob = encode_labels(labels)
    stock, (ours, _) = load(blob), read_tensors(blob)
    assert set(stock) == set(ours)
    assert all(stock[name].tobytes() == ours[name].tobytes() for name in stock)


def test_tensors_are_views_not_copies(make_sample: Any) -> None:
    labels = decode_labels(encode_labels(make_sample(0).labels))
    assert labels.face_keypoints_2d is not None
    assert not labels.face_keypoints_2d.flags.writeable
    assert labels.face_keypoints_2d.base is not None


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"face_keypoints_2d": np.zeros((67, 3), np.float32)},
            r"face_keypoints_2d is float32\[67, 3\], expected float32\[68, 3\]",
        ),
        ({"face_keypoints_2d": np.zeros((68, 3))}, "face_keypoints_2d is float64"),
        ({"face_keypoints_2d": np.zeros(68, np.float32)}, "face_keypoints_2d"),
        ({"hand_side": np.zeros(2, np.uint8), "hand_keypoints_2d": np.zeros((1, 21, 3), np.float32)}, "with .*'H'"),
        ({"face_keypoint_2d": np.zeros((68, 3), np.float32)}, "unknown tensor 'face_keypoint_2d'"),
        ({"keypoint_depth.x": np.zeros((88, 2), np.float32)}, r"keypoint_depth\.x"),
    ],
)
def test_bad_tensors_are_named(tensors: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(SampleError, match=message):
        check_tensors(tensors)


def test_bad_members_are_named(make_sample: Any) -> None:
    members = encode(make_sample(0))
    with pytest.raises(SampleError, match=r"member \.json is missing"):
        decode({"jpg": members["jpg"], "safetensors": members["safetensors"]})
    with pytest.raises(SampleError, match=r"\.json: crop\.size"):
        decode(members | {"json": members["json"].replace(b'"size":128', b'"size":"x"')})
    with pytest.raises(SampleError, match=r"not a readable safetensors file"):
        decode(members | {"safetensors": members["safetensors"][:40]})
    with pytest.raises(SampleError, match="depth_kind 'feet'"):
        decode(members | {"safetensors": members["safetensors"].replace(b'"affine-inverse"', b'"feet"          ')})


def test_published_schema_is_the_exported_one_and_accepts_a_sample(make_sample: Any) -> None:
    published = json.loads((ROOT / "docs" / "sample.schema.json").read_text())
    assert published == json_schema(), "run `make schema`"
    validator = jsonschema.Draft202012Validator(published)
    validator.check_schema(published)
    document = json.loads(encode(make_sample(0))["json"])
    validator.validate(document)
    del document["source"]["uri"]
    assert not validator.is_valid(document)


def test_the_document_names_every_tensor_and_every_provenance_field(make_sample: Any) -> None:
    text = (ROOT / "docs" / "sample_format.md").read_text()
    sample = make_sample(0)
    names = set(TENSOR_FIELDS) | set(DEPTH_KINDS)
    for part in (sample.meta, sample.meta.source, sample.meta.crop, sample.meta.scores, sample.meta.annotators[0]):
        names |= {f.name for f in fields(part)}
    assert not {name for name in names if f"`{name}`" not in text}


def documented(heading: str) -> str:
    """The first Python block under a heading of docs/sample_format.md."""
    text = (ROOT / "docs" / "sample_format.md").read_text()
    return text.split(heading, 1)[1].split("```python\n", 1)[1].split("```", 1)[0]


def run_documented(heading: str, shards: Path) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(documented(heading).replace("out/parts", str(shards)), namespace)
    return namespace


@pytest.fixture
def shards(tmp_path: Path, make_sample: Any, write_tar: Any) -> Path:
    """Two parts whose samples differ in what they know: licences, columns, evidence, agreement."""
    varied = [
        make_sample(0),
        make_sample(1, licence="CC0-1.0", columns={"tag": "x"}),
        make_sample(2, evidence={"robots": "allowed"}),
        make_sample(3, author="A. Author", columns={"other": "y"}),
    ]
    write_tar(tmp_path / "part-0.tar", varied[:2])
    write_tar(tmp_path / "part-1.tar", varied[2:])
    return tmp_path


def test_example_with_stock_webdataset_runs(shards: Path, make_sample: Any) -> None:
    result = run_documented("### With stock webdataset", shards)
    assert result["face"].shape == (68, 3)
    assert result["image"].shape == (128, 128, 3)
    assert result["meta"]["key"] == result["sample"]["__key__"]
    assert [s["__key__"] for s in result["dataset"]] == [make_sample(seed).key for seed in range(4)]


def test_example_with_stock_datasets_runs(
    shards: Path, make_sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run_documented("### With Hugging Face datasets", shards)
    rows = list(result["dataset"])
    assert {row["__key__"] for row in rows} == {make_sample(seed).key for seed in range(4)}
    assert rows[0]["jpg"].size == (128, 128)
    assert result["face"].shape == (68, 3)
    assert rows[0]["json"]["source"]["uri"].startswith("photos/")


def test_example_of_writing_runs_and_validates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from handface.pipeline.contract.checks.validate import validate

    buffer = BytesIO()
    Image.new("RGB", (256, 256), (90, 60, 30)).save(buffer, "JPEG")
    (tmp_path / "crop.jpg").write_bytes(buffer.getvalue())
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(documented("## Writing"), namespace)
    (result,) = validate([str(next(tmp_path.glob("*.tar")))])
    assert (result.samples, result.findings) == (1, [])
