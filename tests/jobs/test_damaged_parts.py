"""Parts of which a file is cut or changed in place: every verb that reads parts names it, goes on with the rest and ends with 1."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handface.jobs.cli import main
from handface.pipeline.contract.inputs import Reason, SourceItem
from handface.pipeline.contract.storage import Folder
from handface.pipeline.engine.parts import write_part
from handface.pipeline.engine.record import Record
from handface.pipeline.export.manifest import read_release

UNITS = ("0" * 16, "1" * 16)


@pytest.fixture
def parts(tmp_path: Path, make_sample: Any) -> Path:
    """Two parts of three samples each, whose pictures decode."""
    folder = tmp_path / "parts"
    for number, unit in enumerate(UNITS):
        records = []
        for seed in range(3 * number, 3 * number + 3):
            sample = make_sample(seed, side=64)
            item = SourceItem(f"https://host{seed}.org/{seed}.jpg")
            phash = f"{seed * 0x9E3779B97F4A7C15 % 2**64:016x}"
            records.append(Record(item, sha256=f"{seed + 1:064x}", phash=phash, sample=sample))
        write_part(Folder(str(folder)), unit, records, ("decode",), "fingerprint")
    return folder


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def overwrite(path: Path) -> None:
    """The same size, other bytes in the middle: of a tar a header, too."""
    data = bytearray(path.read_bytes())
    start = len(data) // 2 // 512 * 512
    data[start : start + 8192] = b"\xff" * len(data[start : start + 8192])
    path.write_bytes(data)


COMMANDS = {
    "stats": ["stats", "PARTS", "--checksums"],
    "report": ["report", "PARTS", "--output", "OUT.html"],
    "export": ["export", "PARTS", "--output", "OUT", "--checksums"],
    "dedupe": ["dedupe", "PARTS", "--output", "OUT.parquet"],
}


def run(verb: str, parts: Path, tmp_path: Path) -> int:
    return main([word.replace("PARTS", str(parts)).replace("OUT", str(tmp_path / "out")) for word in COMMANDS[verb]])


@pytest.mark.parametrize("verb", COMMANDS)
def test_whole_parts_end_with_0(verb: str, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, parts, tmp_path) == 0
    assert "damaged" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "suffix", "harm"),
    [
        *((verb, suffix, cut) for verb in COMMANDS for suffix in ("tar", "parquet")),
        *((verb, "parquet", overwrite) for verb in COMMANDS),
        *((verb, "tar", overwrite) for verb in ("stats", "report", "export")),
    ],
)
def test_a_damaged_file_is_named_and_counted_and_the_rest_is_there(
    verb: str,
    suffix: str,
    harm: Callable[[Path], None],
    parts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = parts / f"part-{UNITS[1]}.{suffix}"
    harm(file)
    assert run(verb, parts, tmp_path) == 1
    said = capsys.readouterr().out
    assert f"1 damaged file: {file};" in said
    if verb == "stats":
        assert said.startswith("3 inputs")
    elif verb == "dedupe":
        assert "3 samples" in said
    elif verb == "report":
        assert (tmp_path / "out.html").read_text().count("data:image/jpeg") >= 3
    else:
        made = read_release(Folder(str(tmp_path / "out")))
        assert made is not None and sum(made.samples.values()) == 3


@pytest.mark.parametrize("verb", ["stats", "export"])
def test_sizes_and_tables_are_looked_at_without_being_asked(
    verb: str, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "out")] if verb == "export" else []
    cut(parts / f"part-{UNITS[0]}.tar")
    assert main([verb, str(parts), *out]) == 1
    assert f"1 damaged file: {parts / f'part-{UNITS[0]}.tar'};" in capsys.readouterr().out


def test_parts_of_which_none_is_whole_end_with_2(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in parts.glob("*.tar"):
        cut(file)
    recheck = ["recheck", str(parts), "--contact", "me@example.org", "--output", str(tmp_path / "out.parquet")]
    for end in (*(lambda verb=verb: run(verb, parts, tmp_path) for verb in ("stats", "export")), lambda: main(recheck)):
        assert end() == 2
        assert "no part is whole" in capsys.readouterr().err
    for file in parts.glob("*.parquet"):
        cut(file)
    for verb in ("dedupe", "report"):
        assert run(verb, parts, tmp_path) == 2
        assert "no part is whole" in capsys.readouterr().err
    assert not (tmp_path / "out" / "manifest.json").exists() and not (tmp_path / "out.parquet").exists()
    assert not (tmp_path / "out.html").exists()


def test_no_folder_is_no_folder_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["stats"], ["export", "--output", str(tmp_path / "out")]):
        assert main(command) == 2
        assert "name at least one folder of parts" in capsys.readouterr().err


def test_a_cut_shard_of_a_release_is_named(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("export", parts, tmp_path) == 0
    shard = next((tmp_path / "out").glob("*.tar"))
    cut(shard)
    capsys.readouterr()
    assert main(["stats", str(tmp_path / "out")]) == 1
    assert f"1 damaged file: {shard};" in capsys.readouterr().out
    cut(tmp_path / "out" / "index.parquet")
    assert main(["stats", str(tmp_path / "out")]) == 2
    assert "index.parquet: missing or not the size manifest.json says" in capsys.readouterr().err


def test_a_report_of_a_plain_shard_shows_what_lies_before_the_damage(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = tmp_path / "plain.tar"
    whole = (parts / f"part-{UNITS[0]}.tar").read_bytes()
    # past the second of three samples
    shard.write_bytes(whole[: len(whole.rstrip(b"\0")) - 2048])
    assert main(["report", str(shard), "--output", str(tmp_path / "out.html")]) == 1
    assert f"1 damaged file: {shard};" in capsys.readouterr().out
    assert (tmp_path / "out.html").read_text().count("data:image/jpeg") >= 2


def test_a_picture_that_does_not_decode_costs_a_report_only_itself(
    tmp_path: Path, make_sample: Any, write_tar: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = dataclasses.replace(make_sample(1, side=64), image=b"no picture")
    shard = write_tar(tmp_path / "some.tar", [make_sample(0, side=64), broken, make_sample(2, side=64)])
    assert main(["report", str(shard), "--output", str(tmp_path / "out.html")]) == 1
    assert f"1 damaged file: {shard};" in capsys.readouterr().out
    assert (tmp_path / "out.html").read_text().count('"key":') == 2


def test_a_report_without_a_sample_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = Record(SourceItem("a.jpg"), reason=Reason.NO_FACE, stage="detect")
    write_part(Folder(str(tmp_path / "parts")), UNITS[0], [away], ("detect",), "f")
    assert main(["report", str(tmp_path / "parts"), "--output", str(tmp_path / "out.html")]) == 1
    assert "of 1 inputs none was kept" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["report", "stats", "export", "dedupe", "validate", "inspect-data"])
def test_a_folder_that_is_not_there_is_one_message(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = [] if verb in ("stats", "validate") else ["--output", str(tmp_path / "out")]
    assert main([verb, str(tmp_path / "nofolder"), *output]) == 2
    assert f"{tmp_path}/nofolder: no such file or folder\n" in capsys.readouterr().err
