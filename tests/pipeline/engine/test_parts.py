"""Parts: equal records give equal bytes, a part exists whole or not at all, and what is wrong with a shard is named."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import tarfile
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.parts import Manifest, read_parts
from handface.pipeline.contract.sample import Scores, encode
from handface.pipeline.contract.shards import ShardError, iter_samples, read_shard
from handface.pipeline.contract.storage import Folder, StorageError
from handface.pipeline.engine.funnel import Funnel
from handface.pipeline.engine.parts import write_part
from handface.pipeline.engine.record import Record
from tests.pipeline.toy_stages import toy_sample

UNIT = "00ff00ff00ff00ff"


def records() -> list[Record]:
    """Three kept, two rejected, one with the same crop as an earlier one."""
    made = []
    for i, number in enumerate([1, 2, 3, 4, 5, 2]):
        record = Record(SourceItem(f"photos/{i}.jpg", columns=(("license", "CC0"), ("tag", "x"))))
        record.original_size, record.sha256 = (640, 480), f"{i:064x}"
        if number in (3, 4):
            record.reject(Reason.NO_FACE, f"<object at 0x7f00{number}a>")
            record.stage = "detect"
        else:
            record.sample = toy_sample(number, record.item.uri)
            record.scores = record.sample.meta.scores
        made.append(record)
    return made


def write(folder: Folder, unit: str = UNIT) -> Manifest:
    return write_part(folder, unit, records(), ("read", "detect"), "fingerprint")


def files(unit: str = UNIT) -> dict[str, bytes]:
    """{file name: bytes} of an undisturbed part, in the order in which they are written, manifest last."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write(Folder(folder), unit)
        return {name: (Path(folder) / name).read_bytes() for name in (*manifest.files, f"part-{unit}.json")}


def test_part_round_trip(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    write(folder)
    (part,) = read_parts(folder)
    manifest = part.manifest
    assert (manifest.inputs, manifest.kept) == (6, 3)
    assert manifest.rejected == {"detect": {"no_face": 2}, "write": {"duplicate": 1}}
    samples = list(part.samples())
    assert [encode(sample) for sample in samples] == [
        encode(r.sample) for r in records() if r.sample and r.item.uri != "photos/5.jpg"
    ]
    rows = part.rows().to_pylist()
    assert [row["uri"] for row in rows] == [f"photos/{i}.jpg" for i in range(6)]  # kept or not, in input order
    assert [row["key"] for row in rows] == [samples[0].key, samples[1].key, None, None, samples[2].key, None]
    assert [row["reason"] for row in rows] == [None, None, "no_face", "no_face", None, "duplicate"]
    assert rows[5]["detail"] == "the same crop as photos/1.jpg"
    assert rows[2]["detail"] == "<object>"  # the address would differ in the next process
    assert rows[0]["licence"] == "CC0"
    assert rows[0]["sharpness"] == pytest.approx(101.0)
    assert dict(rows[0]["columns"]) == {"license": "CC0", "tag": "x"}


def test_the_table_says_where_each_sample_lies_in_the_tar(tmp_path: Path) -> None:
    write(Folder(str(tmp_path)))
    (part,) = read_parts(str(tmp_path))
    tar = Path(part.uri("tar")).read_bytes()
    kept = [row for row in part.rows().to_pylist() if row["offset"] is not None]
    assert [row["key"] for row in kept] == [sample.key for sample in part.samples()]
    for row in kept:
        piece = tar[row["offset"] : row["offset"] + row["size"]]
        (tmp_path / "one.tar").write_bytes(piece + bytes(1024))
        assert [sample.key for sample in iter_samples(str(tmp_path / "one.tar"))] == [row["key"]]


def test_equal_records_give_equal_bytes_without_times_or_owners() -> None:
    assert files() == files()
    with tarfile.open(fileobj=io.BytesIO(files()[f"part-{UNIT}.tar"])) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
            assert member.pax_headers == {}
    manifest = json.loads(files()[f"part-{UNIT}.json"])
    assert not {"seconds", "time", "created"} & set(manifest)


def test_manifest_is_written_last_and_makes_the_part_exist(tmp_path: Path) -> None:
    folder, whole = Folder(str(tmp_path)), files()
    names = list(whole)
    assert names[-1].endswith(".json")
    for name in names[:-1]:
        folder.write(name, whole[name])
        assert list(read_parts(folder)) == []
    folder.write(names[-1], whole[names[-1]])
    assert len(list(read_parts(folder))) == 1


@pytest.mark.parametrize("extension", ["tar", "parquet"])
def test_part_with_a_missing_or_short_file_does_not_count(
    tmp_path: Path, extension: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Folder(str(tmp_path))
    write(folder)
    path = tmp_path / f"part-{UNIT}.{extension}"
    path.write_bytes(path.read_bytes()[:-1])
    assert list(read_parts(folder)) == []
    assert path.name in caplog.text
    path.unlink()
    assert list(read_parts(folder)) == []
    write(folder)  # the rerun repairs it
    assert len(list(read_parts(folder))) == 1


def test_damaged_manifest_is_named_and_does_not_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(Folder(str(tmp_path)))
    (tmp_path / f"part-{UNIT}.json").write_text("{")
    assert list(read_parts(str(tmp_path))) == []
    assert f"part-{UNIT}.json" in caplog.text


def test_only_leftovers_of_the_same_unit_are_cleared(tmp_path: Path) -> None:
    mine, others = tmp_path / f".tmp-part-{UNIT}.tar.abc", tmp_path / ".tmp-part-1111111111111111.tar.abc"
    mine.write_bytes(b"half")
    others.write_bytes(b"half")
    write(Folder(str(tmp_path)))
    assert not mine.exists()
    assert others.exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("failing_call", [1, 2, 3])
def test_disk_trouble_leaves_nothing_partial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, failing_call: int
) -> None:
    import os

    calls = 0
    fsync = os.fsync

    def trouble(descriptor: int) -> None:
        nonlocal calls
        if Path(f"/proc/self/fd/{descriptor}").readlink().name.startswith(".tmp-"):
            calls += 1
            if calls == failing_call:
                raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", trouble)
    with pytest.raises(StorageError) as caught:
        write(Folder(str(tmp_path)))
    name = list(files())[failing_call - 1]
    assert f"{tmp_path}/{name}" in str(caught.value)
    # exports and crawls write here, too
    assert str(caught.value).endswith("run the same command again")
    assert caught.value.errno == code
    assert list(read_parts(str(tmp_path))) == []
    assert not list(tmp_path.glob(".tmp-*"))
    assert all(path.read_bytes() == files()[path.name] for path in tmp_path.iterdir())  # whole files only
    write(Folder(str(tmp_path)))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files()


@pytest.mark.parametrize("failing_call", [None, 1, 3, 10])
def test_a_large_file_goes_to_the_disk_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int | None
) -> None:
    """Whenever the disk fails, also in the last step, nothing is published."""
    monkeypatch.setattr("handface.pipeline.contract.storage._STEP", 20_000)
    calls = 0

    def sync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fdatasync", sync)
    data = random.Random(0).randbytes(200_001)
    refused = pytest.raises(StorageError, match=r"x\.bin: .*Check the disk") if failing_call else nullcontext()
    with refused, Folder(str(tmp_path)).writer("x.bin") as stream:
        for start in range(0, len(data), 10_000):
            stream.write(data[start : start + 10_000])
    found = [path.read_bytes() for path in tmp_path.iterdir()]
    assert found == ([] if failing_call else [data])
    assert calls == failing_call or (failing_call is None and calls == 10)


def test_parts_on_an_object_store() -> None:
    folder = Folder("memory://parts-test/out")
    write(folder)
    write(folder, "1111111111111111")
    parts = list(read_parts("memory://parts-test/out"))
    assert [part.manifest.unit for part in parts] == [UNIT, "1111111111111111"]
    assert len(list(parts[0].samples())) == 3


@pytest.mark.parametrize("uri", ["memory://sha-test/out", "LOCAL"])
def test_a_checksum_never_holds_the_whole_file(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, data = Folder(uri.replace("LOCAL", str(tmp_path))), bytes(range(256)) * 1000
    folder.write("large.bin", data)

    def whole(*_: object, **__: object) -> bytes:
        raise AssertionError("the file was read whole")

    monkeypatch.setattr(type(folder.filesystem), "cat_file", whole)
    assert folder.sha256("large.bin") == hashlib.sha256(data).hexdigest()


def test_part_without_kept_samples_is_a_readable_tar(tmp_path: Path) -> None:
    rejected = [record for record in records() if not record.alive]
    write_part(Folder(str(tmp_path)), UNIT, rejected, ("detect",), "fingerprint")
    (part,) = read_parts(str(tmp_path))
    assert list(part.samples()) == []
    assert part.rows().num_rows == 2


def test_record_that_nobody_packed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"photos/x\.jpg: passed every stage but holds no sample"):
        write_part(Folder(str(tmp_path)), UNIT, [Record(SourceItem("photos/x.jpg"))], (), "fingerprint")


def test_funnel_adds_up(tmp_path: Path) -> None:
    funnel = Funnel()
    for unit in ("a", "b"):
        funnel.add(write(Folder(str(tmp_path)), unit))
    rows = funnel.rows()
    assert [(row.stage, row.entered, row.passed) for row in rows] == [
        ("read", 12, 12),
        ("detect", 12, 8),
        ("write", 8, 6),
    ]
    assert rows[1].reasons == {"no_face": 4}
    assert rows[-1].passed == funnel.kept == 6


def test_manifest_round_trip(tmp_path: Path) -> None:
    manifest = write(Folder(str(tmp_path)))
    assert Manifest.loads(manifest.dumps()) == manifest
    with pytest.raises(ValueError, match="not a part's manifest"):
        Manifest.loads(b"[]")


# --- the shard reader ---


def tar_of(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> str:
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
            else:
                tar.addfile(member)
    return str(path)


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def test_reader_groups_members_by_key(tmp_path: Path) -> None:
    uri = tar_of(tmp_path / "a.tar", ("k1.jpg", b"1"), ("k1.depth.png", b"2"), ("sub/k2.jpg", b"3"))
    assert list(read_shard(uri)) == [("k1", {"jpg": b"1", "depth.png": b"2"}), ("sub/k2", {"jpg": b"3"})]


@pytest.mark.parametrize(
    "member",
    [
        ("/etc/k.jpg", b""),
        ("../k.jpg", b""),
        ("a/../../k.jpg", b""),
        ("a\\k.jpg", b""),
        ("C:k.jpg", b""),
        link("k.jpg", tarfile.SYMTYPE),
        link("k.jpg", tarfile.LNKTYPE),
        link("k.jpg", tarfile.CHRTYPE),
        link("k.jpg", tarfile.FIFOTYPE),
    ],
)
def test_reader_refuses_unsafe_members(tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes]) -> None:
    uri = tar_of(tmp_path / "bad.tar", ("good.jpg", b"1"), member)
    with pytest.raises(ShardError, match=r"bad\.tar: member '.*' refused"):
        list(read_shard(uri))


def test_reader_refuses_duplicates_and_damage(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"k\.jpg is there twice"):
        list(read_shard(tar_of(tmp_path / "a.tar", ("k.jpg", b"1"), ("k.jpg", b"2"))))
    with pytest.raises(ShardError, match="key k is there twice"):
        list(read_shard(tar_of(tmp_path / "b.tar", ("k.jpg", b"1"), ("l.jpg", b"2"), ("k.json", b"3"))))
    whole = tar_of(tmp_path / "c.tar", ("k.jpg", b"1" * 9000), ("l.jpg", b"2" * 9000))
    (tmp_path / "c.tar").write_bytes((tmp_path / "c.tar").read_bytes()[:12000])
    with pytest.raises(ShardError, match=r"c\.tar: damaged or cut off"):
        list(read_shard(whole))
    (tmp_path / "d.tar").write_bytes(b"<html>not found</html>" * 100)
    with pytest.raises(ShardError, match=r"d\.tar: not a tar file"):
        list(read_shard(str(tmp_path / "d.tar")))
    with pytest.raises(FileNotFoundError):
        list(read_shard(str(tmp_path / "missing.tar")))


def test_sample_that_breaks_the_contract_is_named(tmp_path: Path) -> None:
    uri = tar_of(tmp_path / "a.tar", ("0123456789abcdef.jpg", b"1"))
    with pytest.raises(ShardError, match=r"a\.tar: sample 0123456789abcdef: member \.json is missing"):
        list(iter_samples(uri))


def test_scores_have_their_columns() -> None:
    from handface.pipeline.contract.parts import row_schema

    expected = {name for name in Scores.__dataclass_fields__ if name != "keypoint_agreement"}
    assert expected <= set(row_schema().names)
