"""The tar index against Python's tarfile: the same members, and an error with tar and byte wherever that one ends quietly."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from handface.pipeline.contract.checks.validate import validate
from handface.pipeline.contract.inputs import Reason
from handface.pipeline.contract.shards import read_shard
from handface.pipeline.contract.tar_index import (
    HAMER_ADVICE,
    Member,
    ShardError,
    iter_members,
    read_data,
    split_name,
    stream_length,
)
from handface.pipeline.sources import open_source
from handface.trainers.data.shards.index import scan_shard


def tar_bytes(members: list[tuple[str, bytes]], **options: object) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as tar:  # type: ignore[call-overload]
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def members_of(data: bytes) -> list[Member]:
    stream = io.BytesIO(data)
    return list(iter_members("x.tar", stream, stream_length(stream)))


LONG = "folder/" + "long " * 60 + "name.jpg"
NAMES = [
    ("0001.jpg", b"a" * 700),
    ("0001.depth.png", b"b" * 512),
    (LONG, b"c"),
    ("写真/二.jpg", b""),
    ("x\u202fy\u00a0z\u3000\u200b\u202e.jpg", b"d" * 1025),
]


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_those_of_tarfile(kind: int) -> None:
    data = tar_bytes(NAMES, format=kind)
    found = members_of(data)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(m.name, m.offset, m.size) for m in found] == [(m.name, m.offset_data, m.size) for m in tar]
    assert not any(member.problem for member in found)
    assert [read_data("x.tar", io.BytesIO(data), member) for member in found] == [content for _, content in NAMES]
    assert found[0].start == 0 and [member.start for member in found[1:]] == [member.end for member in found[:-1]]


def test_pax_sizes_paths_and_global_headers() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "all"}) as tar:
        info = tarfile.TarInfo("short.jpg")
        info.pax_headers = {"path": "ä" * 200 + ".jpg", "size": "5", "mtime": "1.5"}
        info.size = 5
        tar.addfile(info, io.BytesIO(b"12345"))
    (member,) = members_of(buffer.getvalue())
    assert member.name == "ä" * 200 + ".jpg" and member.size == 5


def test_a_key_ends_at_the_first_dot_of_the_name() -> None:
    assert split_name("0001.rgb.JPG") == ("0001", "rgb.jpg")
    assert split_name("v1.2/0001.json") == ("v1.2/0001", "json")
    assert split_name("plain") == ("plain", "")


def test_names_that_are_no_utf8_are_written_as_escapes() -> None:
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        names = [(b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), b"1"), ("b.jpg", b"2")]
        first, second = members_of(tar_bytes(names, format=kind, encoding="utf-8", errors="surrogateescape"))
        assert (first.name, second.name) == (r"caf\xe9.jpg", "b.jpg") and not first.problem


def checksum(data: bytearray, at: int) -> None:
    """Mend a header's checksum after a change."""
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])


def damages() -> dict[str, tuple[bytes, int]]:
    """Broken tars of two samples, and the byte that the error must name."""
    whole = tar_bytes([("a.jpg", b"1" * 600), ("a.safetensors", b"2"), ("b.jpg", b"3"), ("b.safetensors", b"4")])
    third = 512 + 1024 + 512 + 512
    flipped, big, negative = bytearray(whole), bytearray(whole), bytearray(whole)
    flipped[third + 150] ^= 1
    big[third + 124 : third + 136] = b"77777777777\0"
    checksum(big, third)
    negative[third + 124 : third + 136] = b"\xff" * 12
    checksum(negative, third)
    end = whole.index(b"b.safetensors") + 1024
    pax = tar_bytes([("ü.jpg", b"1" * 600)], format=tarfile.PAX_FORMAT)
    broken_pax = bytearray(pax)
    broken_pax[512] = ord("x")
    return {
        "checksum": (bytes(flipped), third),
        "impossible size": (bytes(big), len(whole)),
        "negative size": (bytes(negative), third),
        "cut in a header": (whole[: third + 100], third),
        "cut in data": (whole[:800], 800),
        "cut between members": (whole[:third], third),
        "no end": (whole[:end], end),
        "joined": (whole + whole, len(whole)),
        "zeros, then more": (whole[:third] + bytes(512) + whole[third:], third + 512),
        "pax": (bytes(broken_pax), 0),
    }


@pytest.mark.parametrize("damage", damages())
def test_every_reader_names_tar_and_byte(tmp_path: Path, damage: str) -> None:
    data, byte = damages()[damage]
    path = tmp_path / "broken.tar"
    path.write_bytes(data)
    expected = rf"broken\.tar: damaged or cut off at byte {byte}: "
    with pytest.raises(ShardError, match=expected):
        list(read_shard(str(path)))
    with pytest.raises(ShardError, match=expected):
        scan_shard(str(path))
    *_, last = open_source([str(path)])
    assert last.problem is Reason.UNREADABLE and f"at byte {byte}" in last.detail
    (result,) = validate([str(path)])
    assert any(f.code == "bad_tar" and f"at byte {byte}" in f.message for f in result.findings)


def test_inputs_before_the_damage_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "broken.tar"
    path.write_bytes(damages()["checksum"][0])
    first, last = open_source([str(path)])
    assert (first.member, first.problem) == ("a.jpg", None) and last.problem is Reason.UNREADABLE


def test_what_is_no_plain_tar_says_what_to_do(tmp_path: Path) -> None:
    import bz2
    import gzip
    import lzma
    import zipfile

    whole, zipped = tar_bytes(NAMES), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.jpg", b"1" * 600)
    for data, words in (
        (gzip.compress(whole), "gzip -d"),
        (bz2.compress(whole), "bzip2 -d"),
        (lzma.compress(whole), "xz -d"),
        (zipped.getvalue(), "unzip"),
        (b"", "empty"),
        (b"<html>" * 200, "not a tar"),
    ):
        with pytest.raises(ShardError, match=words):
            members_of(data)
    for name in ("a.tar.gz", "a.tgz", "a.tar.zst", "a.zip"):
        (tmp_path / name).write_bytes(gzip.compress(whole))
        (item,) = open_source([str(tmp_path / name)])
        assert item.problem is Reason.UNREADABLE and "unpack it" in item.detail


def test_hidden_members_belong_to_no_sample(tmp_path: Path) -> None:
    path = tmp_path / "mac.tar"
    names = ["._0001.jpg", "0001.jpg", "._0001.json", "0001.json"]
    path.write_bytes(tar_bytes([(name, b"{}") for name in names]))
    assert list(read_shard(str(path))) == [("0001", {"jpg": b"{}", "json": b"{}"})]
    assert [item.member for item in open_source([str(path)])] == ["0001.jpg"]


@pytest.mark.parametrize("extension", ["data.pyd", "detection.npz"])
def test_hamer_shards_get_the_same_advice_everywhere(tmp_path: Path, extension: str) -> None:
    path = tmp_path / "hamer.tar"
    path.write_bytes(tar_bytes([("0001.jpg", b"1"), (f"0001.{extension}", b"2")]))
    for read in (lambda: list(read_shard(str(path))), lambda: scan_shard(str(path))):
        with pytest.raises(ShardError) as caught:
            read()
        assert HAMER_ADVICE in str(caught.value)
    (result,) = validate([str(path)])
    assert any(HAMER_ADVICE in finding.message for finding in result.findings)


def test_upper_case_extensions_are_those_of_the_contract(tmp_path: Path) -> None:
    path = tmp_path / "upper.tar"
    path.write_bytes(tar_bytes([("k.JPG", b"1"), ("k.Safetensors", b"2")]))
    assert list(read_shard(str(path))) == [("k", {"jpg": b"1", "safetensors": b"2"})]
    keys, starts, sizes = scan_shard(str(path))
    assert keys == ("k",) and list(starts) == [0] and list(sizes) == [512 + 512 + 512 + 1]


def test_a_sample_whose_members_stand_apart_is_joined_for_annotation_and_refused_as_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "apart.tar"
    path.write_bytes(
        tar_bytes([("a.jpg", b"1"), ("b.jpg", b"2"), ("a.json", b'{"license": "A"}'), ("b.json", b'{"license": "B"}')])
    )
    assert [(i.member, i.column("license")) for i in open_source([str(path)])] == [("a.jpg", "A"), ("b.jpg", "B")]
    with pytest.raises(ShardError, match="key a is there twice, in two places"):
        list(read_shard(str(path)))


def test_sidecars_go_to_their_own_picture(tmp_path: Path) -> None:
    path = tmp_path / "views.tar"
    members = {
        "s.1.jpg": b"1",
        "s.1.json": b'{"license": "one"}',
        "s.2.jpg": b"2",
        "s.2.json": b'{"license": "two"}',
        "s.json": b'{"license": "all", "author": "me"}',
        "t.rgb.jpg": b"3",
        "t.json": b'{"license": "t", "width": NaN, "height": Infinity, "exif": {"a": 1}, "author": null}',
    }
    path.write_bytes(tar_bytes(list(members.items())))
    found = {item.member: dict(item.columns) for item in open_source([str(path)])}
    assert found == {
        "s.1.jpg": {"license": "one", "author": "me"},
        "s.2.jpg": {"license": "two", "author": "me"},
        "t.rgb.jpg": {"license": "t"},
    }


@pytest.mark.parametrize("seed", range(4))
def test_mutated_tars_end_in_members_or_one_error(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)
    plain = [(name, data) for name, data in NAMES if len(name) < 90]
    wholes = [tar_bytes(plain, format=kind) for kind in kinds]
    path = tmp_path / "mutated.tar"
    for _ in range(400):
        data = bytearray(wholes[rng.integers(len(wholes))])
        for _ in range(rng.integers(1, 4)):
            header = int(rng.integers(len(data) // 512)) * 512
            field = int(rng.choice([0, 100, 124, 130, 148, 156, 257, 345, 400]))
            size = int(rng.integers(1, 13))
            data[header + field : header + field + size] = rng.bytes(size)
            if rng.random() < 0.7:
                checksum(data, header)
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data))]
        try:
            found = members_of(bytes(data))
        except ShardError as error:
            assert "x.tar: " in str(error)
        else:
            assert all(0 <= member.offset <= len(data) for member in found)
            for member in found:
                member.name.encode("utf-8")
        path.write_bytes(data)
        (result,) = validate([str(path)])
        assert result.bytes == len(data)
