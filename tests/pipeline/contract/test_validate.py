"""The validator: good shards pass, and each way to break one is found and named."""

from __future__ import annotations

import dataclasses
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from handface.pipeline.contract.checks.sample import check_sample
from handface.pipeline.contract.checks.validate import FileResult, validate
from handface.pipeline.contract.sample import KeypointDepth, Sample, encode, sample_key
from handface.pipeline.contract.shards import find_shards


def check(path: Path, **options: Any) -> FileResult:
    return next(iter(validate([str(path)], **options)))


def codes(path: Path) -> set[str]:
    return set(check(path).counts)


def image_bytes(size: tuple[int, int], mode: str = "RGB", format: str = "JPEG", **options: Any) -> bytes:
    buffer = BytesIO()
    Image.new(mode, size, 128).save(buffer, format, **options)
    return buffer.getvalue()


def test_good_shard_passes_and_counts(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    path = write_tar(tmp_path / "a.tar", [make_sample(seed, depth=seed % 2 == 0) for seed in range(5)])
    seen: list[int] = []
    result = check(path, progress=seen.append)
    assert (result.samples, result.findings, result.bytes) == (5, [], path.stat().st_size)
    assert sum(seen) == path.stat().st_size


LABEL_FAULTS: dict[str, tuple[Callable[[Sample], dict[str, Any]], str]] = {
    "not finite": (lambda s: {"face_keypoints_2d": s.labels.face_keypoints_2d * np.nan}, "not finite"),
    "far away": (
        lambda s: {"face_keypoints_2d": np.add(s.labels.face_keypoints_2d, [1000, 0, 0])},
        "outside the 128 px crop",
    ),
    "confidence": (lambda s: {"hand_keypoints_2d": s.labels.hand_keypoints_2d * [1, 1, 3]}, "confidence"),
    "side": (lambda s: {"hand_side": np.array([2], np.uint8)}, "hand_side must be 0 or 1, found 2"),
    "no side": (lambda s: {"hand_side": None}, "come together"),
    "visibility": (lambda s: {"keypoint_visibility": np.full(89, 7, np.uint8)}, "found 7"),
    "validity": (
        lambda s: {"keypoint_depth": {"d": KeypointDepth(np.full((89, 2), 0.5, np.float32), "metric")}},
        "validity",
    ),
    "depth nan": (
        lambda s: {"keypoint_depth": {"d": KeypointDepth(np.full((89, 2), np.nan, np.float32), "metric")}},
        "keypoint_depth.d has values",
    ),
    "millimetres": (lambda s: {"hand_transl": np.array([0, 0, 600], np.float32)}, "millimetres"),
    "degrees": (lambda s: {"hand_pose": np.full((15, 3), 90, np.float32), "hand_model": "m"}, "degrees"),
    "no model": (lambda s: {"head_betas": np.zeros(100, np.float32)}, "head_betas without head_model"),
    "camera": (lambda s: {"camera_intrinsics": np.zeros((3, 3), np.float32)}, "focal"),
    "rows": (
        lambda s: {
            "head_deformation_rows": np.array([3, 3], np.int32),
            "head_deformation": np.zeros((2, 3), np.float16),
            "head_model": "m",
        },
        "ascending",
    ),
    "rows alone": (
        lambda s: {"head_deformation_rows": np.array([1], np.int32), "head_model": "m"},
        "head_deformation_rows and head_deformation",
    ),
}


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_label_out_of_range_is_named(make_sample: Any, fault: str) -> None:
    sample = make_sample(0)
    change, expected = LABEL_FAULTS[fault]
    values = {
        name: value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float64 else value
        for name, value in change(sample).items()
    }
    broken = encode(replace(sample, labels=replace(sample.labels, **values)))
    (problem,) = check_sample(sample.key, broken)
    assert (problem.code, problem.member) == ("out_of_range", "safetensors")
    assert expected in problem.message


META_FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "version": (lambda d: d.update(schema_version="9.0"), "schema_version '9.0'"),
    "typo": (lambda d: d["source"].update(license="CC0"), "unknown field source.license"),
    "typo in list": (lambda d: d["annotators"][0].update(x=1), "unknown field annotators.0.x"),
    "type": (lambda d: d["crop"].update(size="big"), "crop.size"),
    "missing": (lambda d: d.pop("source"), "source: Field required"),
    "sha": (lambda d: d["source"].update(sha256="xyz"), "source.sha256 'xyz'"),
    "size": (lambda d: d["crop"].update(size=64), "crop.size 64, but the .jpg is 128 px"),
    "original": (lambda d: d["crop"].update(original_width=0), "original_width"),
    "singular": (lambda d: d["crop"].update(affine=[[0, 0, 1], [0, 0, 1], [0, 0, 1]]), "cannot be inverted"),
    "projective": (lambda d: d["crop"].update(affine=[[1, 0, 1], [0, 1, 1], [1, 0, 1]]), "last row"),
    "score": (lambda d: d["scores"].update(contact=1.5), "scores.contact 1.5"),
    "agreement": (lambda d: d["scores"].update(keypoint_agreement={"a/b": -1}), "scores.keypoint_agreement.a/b -1"),
    "sharpness": (lambda d: d["scores"].update(sharpness=-1), "sharpness"),
}


@pytest.mark.parametrize("fault", META_FAULTS)
def test_wrong_provenance_is_named(make_sample: Any, fault: str) -> None:
    sample = make_sample(0)
    change, expected = META_FAULTS[fault]
    members = encode(sample)
    document = json.loads(members["json"])
    change(document)
    (problem,) = check_sample(sample.key, members | {"json": json.dumps(document).encode()})
    assert (problem.code, problem.member) == ("bad_json", "json")
    assert expected in problem.message


def exif_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return image_bytes((128, 128), exif=exif)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (lambda good: good[: len(good) // 2], "does not decode"),
        (lambda good: b"<html>404</html>", "does not decode"),
        (lambda good: b"", "does not decode"),
        (lambda good: image_bytes((128, 64)), "128x64"),
        (lambda good: image_bytes((640, 640)), "at most 512"),
        (lambda good: image_bytes((128, 128), "L"), "colour mode L"),
        (lambda good: image_bytes((128, 128), format="PNG"), "does not decode as a JPEG"),
        (lambda good: exif_jpeg(), "EXIF"),
    ],
)
def test_wrong_image_is_named(make_sample: Any, image: Callable[[bytes], bytes], expected: str) -> None:
    members = encode(make_sample(0, depth=False))
    blob = image(members["jpg"])
    document = json.loads(members["json"])
    document["key"] = sample_key(blob)
    broken = members | {"jpg": blob, "json": json.dumps(document).encode()}
    (problem,) = check_sample(sample_key(blob), broken)
    assert problem.code == "bad_image"
    assert expected in problem.message


@pytest.mark.parametrize(
    ("png", "expected"),
    [
        (image_bytes((64, 64), "I;16", "PNG"), "64x64, but the crop is 128x128"),
        (image_bytes((128, 128), "L", "PNG"), "expected 16-bit grey"),
        (image_bytes((128, 128), "I;16", "PNG")[:80], "does not decode"),
        (image_bytes((128, 128), "I;16", "PNG"), "offset and scale must be numbers"),
    ],
)
def test_wrong_depth_map_is_named(make_sample: Any, png: bytes, expected: str) -> None:
    sample = make_sample(0)
    (problem,) = check_sample(sample.key, encode(sample) | {"depth.png": png})
    assert (problem.code, problem.member) == ("bad_depth", "depth.png")
    assert expected in problem.message


def test_key_must_be_the_hash_of_the_image(make_sample: Any) -> None:
    sample = make_sample(0)
    problems = list(check_sample("0" * 16, encode(sample)))
    assert [p.code for p in problems] == ["bad_key", "bad_key"]
    assert sample.key in problems[0].message


def test_missing_and_unknown_members(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    sample = make_sample(0)
    members = encode(sample)
    del members["safetensors"]
    path = write_tar(tmp_path / "a.tar", [(sample.key, {**members, "txt": b"hello"})])
    assert check(path).counts == {"missing_member": 1, "unknown_member": 1}


@pytest.mark.parametrize(
    ("extension", "expected"),
    [
        ("data.pyd", "HaMeR"),
        ("detection.npz", "HaMeR"),
        ("pkl", "can run code"),
        ("x.PICKLE", "can run"),
        ("pth", "can"),
    ],
)
def test_pickles_are_refused_unread(
    tmp_path: Path, make_sample: Any, write_tar: Any, extension: str, expected: str
) -> None:
    sample = make_sample(0)
    path = write_tar(tmp_path / "a.tar", [(sample.key, {**encode(sample), extension: b"cos\nsystem\n(S'x'\ntR."})])
    result = check(path)
    assert set(result.counts) == {"pickle"}
    assert expected in result.findings[0].message
    assert (result.findings[0].key, result.findings[0].member) == (sample.key, extension.lower())


def tar_of(path: Path, *infos: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for info in infos:
            tar.addfile(info, BytesIO(b"x" * info.size))
    return path


@pytest.mark.parametrize(
    ("name", "type", "expected"),
    [
        ("/etc/passwd.jpg", tarfile.REGTYPE, "absolute"),
        ("../up.jpg", tarfile.REGTYPE, ".."),
        ("C:/up.jpg", tarfile.REGTYPE, "absolute"),
        ("a\\b.jpg", tarfile.REGTYPE, "foreign"),
        ("a\nb.jpg", tarfile.REGTYPE, "control"),
        ("a.jpg", tarfile.SYMTYPE, "symbolic link"),
        ("a.jpg", tarfile.LNKTYPE, "hard link"),
        ("a", tarfile.DIRTYPE, "folder"),
        ("a.jpg", tarfile.CHRTYPE, "device"),
        ("a.jpg", tarfile.FIFOTYPE, "pipe"),
        ("a.jpg", tarfile.CONTTYPE, "odd type"),
    ],
)
def test_unsafe_members_are_found(tmp_path: Path, name: str, type: bytes, expected: str) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type, "elsewhere" if type in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
    result = check(tar_of(tmp_path / "a.tar", info))
    assert result.counts["unsafe_member"] == 1
    assert any(f.code == "unsafe_member" and expected in f.message for f in result.findings)


def test_a_huge_member_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handface.pipeline.contract.tar_index.MAX_MEMBER_BYTES", 1000)
    info = tarfile.TarInfo("a.jpg")
    info.size = 1001
    assert "1001 bytes, more than 1000" in check(tar_of(tmp_path / "a.tar", info)).findings[0].message


def test_duplicates_inside_and_across_files(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    first, second = make_sample(1), make_sample(2)
    a = write_tar(tmp_path / "a.tar", [first, second, first])
    b = write_tar(tmp_path / "b.tar", [second])
    inside, across = validate([str(a), str(b)])
    assert inside.counts == {"duplicate_key": 1}
    assert "earlier in this file" in inside.findings[0].message
    assert across.counts == {"duplicate_key": 1}
    assert str(a) in across.findings[0].message
    twice = tarfile.TarInfo(f"{first.key}.jpg")
    assert "duplicate_key" in codes(tar_of(tmp_path / "c.tar", twice, twice))


def test_files_that_are_no_shards(tmp_path: Path) -> None:
    cases = {
        b"": "empty",
        b"<html>" * 200: "not a tar",
        b"short": "not a tar",
        b"\x1f\x8b" + b"x" * 600: "compressed",
        b"\0" * 512: "cut off",
    }
    for content, expected in cases.items():
        path = tmp_path / "x.tar"
        path.write_bytes(content)
        result = check(path)
        assert result.counts == {"bad_tar": 1}
        assert expected in result.findings[0].message
    assert check(tar_of(tmp_path / "nothing.tar")).counts == {}  # an empty but whole tar


def test_a_cut_anywhere_is_found(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    whole = write_tar(tmp_path / "a.tar", [make_sample(seed, side=32) for seed in range(3)]).read_bytes()
    end = len(whole.rstrip(b"\0"))
    cut = tmp_path / "cut.tar"
    for length in [*range(512, end + 513, 512), 700, end - 3, end + 700]:
        cut.write_bytes(whole[:length])
        assert "bad_tar" in codes(cut), f"cut at {length} of {len(whole)} went unseen"


def test_a_damaged_header_in_the_middle_is_found(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    path = write_tar(tmp_path / "a.tar", [make_sample(seed, side=32) for seed in range(3)])
    with tarfile.open(path) as tar:
        offset = tar.getmembers()[4].offset
    data = bytearray(path.read_bytes())
    data[offset + 150] ^= 0x55  # its checksum
    path.write_bytes(data)
    result = check(path)
    assert f"damaged or cut off at byte {offset}: neither a member nor the end" in result.findings[-1].message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_never_crash_it(tmp_path: Path, make_sample: Any, write_tar: Any, data: st.DataObject) -> None:
    path = tmp_path / "fuzz.tar"
    blob = bytearray(write_tar(path, [make_sample(0, side=32)]).read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(blob)
    assert check(path).counts.total() >= 0


@settings(max_examples=200, deadline=None)
@given(
    header=st.recursive(
        st.none() | st.integers() | st.text(max_size=8) | st.floats(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["hand_side", "__metadata__", "dtype", "shape", "data_offsets", "x"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_any_safetensors_header_is_judged_not_crashed_on(make_sample: Any, header: Any) -> None:
    text = json.dumps(header).encode()
    blob = len(text).to_bytes(8, "little") + text + b"\0" * 64
    sample = make_sample(0)
    for problem in check_sample(sample.key, encode(sample) | {"safetensors": blob}):
        assert problem.member == "safetensors"


def test_deep_nesting_is_judged_not_crashed_on(make_sample: Any) -> None:
    sample = make_sample(0)
    deep = b"[" * 200_000
    blob = len(deep).to_bytes(8, "little") + deep
    assert [p.code for p in check_sample(sample.key, encode(sample) | {"safetensors": blob})] == ["bad_tensor"]
    assert [p.code for p in check_sample(sample.key, encode(sample) | {"json": deep})] == ["bad_json"]


def test_findings_are_bounded_and_counted(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    path = write_tar(tmp_path / "a.tar", [(f"{i:016x}", encode(make_sample(i, side=32))) for i in range(12)])
    result = check(path, max_findings=5)
    assert len(result.findings) == 5
    assert result.counts == {"bad_key": 24}


def test_find_shards(tmp_path: Path, make_sample: Any, write_tar: Any) -> None:
    (tmp_path / "deep").mkdir()
    b = write_tar(tmp_path / "deep" / "b.tar", [make_sample(1)])
    a = write_tar(tmp_path / "a.tar", [make_sample(2)])
    assert find_shards([str(tmp_path)]) == [str(a), str(b)]
    assert find_shards([str(tmp_path / "*.tar")]) == [str(a)]
    assert find_shards([a.as_uri()]) == [a.as_uri()]
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_shards([str(tmp_path / "none.tar")])


def test_findings_are_plain_data(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"")
    document = json.loads(json.dumps(check(tmp_path / "x.tar").as_dict()))
    assert document["counts"] == {"bad_tar": 1}
    assert set(document["findings"][0]) == {f.name for f in dataclasses.fields(check(tmp_path / "x.tar").findings[0])}


def part(folder: Path, samples: list[Sample]) -> Path:
    """A finished part: the samples kept, and one more input turned away."""
    from handface.pipeline.contract.inputs import Reason, SourceItem
    from handface.pipeline.contract.storage import Folder
    from handface.pipeline.engine.parts import write_part
    from handface.pipeline.engine.record import Record

    records = [Record(SourceItem(f"photos/{sample.key}.jpg"), sample=sample) for sample in samples]
    records.append(Record(SourceItem("photos/bad.jpg"), reason=Reason.CORRUPT, stage="decode"))
    write_part(Folder(str(folder)), "0123456789abcdef", records, ("decode", "pack"), "f")
    return folder / "part-0123456789abcdef.tar"


def test_a_part_agrees_with_its_manifest(tmp_path: Path, make_sample: Any) -> None:
    path = part(tmp_path, [make_sample(1), make_sample(2)])
    assert check(path).counts == {}


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda tar: tar.with_suffix(".json").write_text("{"), "part-0123456789abcdef.json: "),
        (lambda tar: tar.with_suffix(".json").write_text("[]"), "not a part's manifest"),
        (lambda tar: tar.with_suffix(".parquet").unlink(), "parquet is missing"),
        (lambda tar: tar.with_suffix(".parquet").write_bytes(b"PAR1"), "does not read"),
        (lambda tar: tar.write_bytes(tar.read_bytes() + b"\0" * 512), "changed after it was written"),
    ],
)
def test_a_part_that_was_changed_is_named(
    tmp_path: Path, make_sample: Any, spoil: Callable[[Path], object], expected: str
) -> None:
    path = part(tmp_path, [make_sample(1), make_sample(2)])
    spoil(path)
    result = check(path)
    assert set(result.counts) == {"part_mismatch"}
    assert any(expected in finding.message for finding in result.findings)


def test_rows_and_samples_of_a_part_must_agree(tmp_path: Path, make_sample: Any) -> None:
    (tmp_path / "other").mkdir()
    path = part(tmp_path, [make_sample(1), make_sample(2)])
    other = part(tmp_path / "other", [make_sample(3)])
    path.write_bytes(other.read_bytes())
    messages = " ".join(finding.message for finding in check(path).findings)
    assert "1 samples, but part-0123456789abcdef.json says 2" in messages
    assert "calls kept are not those of the tar" in messages
