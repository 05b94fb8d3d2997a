"""`handface validate`: exit codes, the text it prints, and its JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from handface.jobs.cli import main


@pytest.fixture
def good(tmp_path: Path, make_sample: Any, write_tar: Any) -> Path:
    return write_tar(tmp_path / "good.tar", [make_sample(seed, side=32) for seed in range(3)])


def test_good_shards_exit_0(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(good)]) == 0
    assert capsys.readouterr().out == "1 file, 3 samples, 0 findings\n"


def test_a_finding_names_file_key_and_member_and_exits_1(
    good: Path, tmp_path: Path, make_sample: Any, write_tar: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from handface.pipeline.contract.sample import encode

    sample = make_sample(7, side=32)
    bad = write_tar(tmp_path / "bad.tar", [(sample.key, encode(sample) | {"json": b"{}"})])
    assert main(["validate", str(good), str(bad)]) == 1
    out = capsys.readouterr().out
    assert f"{bad}: {sample.key} .json: .json: key: Field required [bad_json]" in out
    assert "2 files, 4 samples, 1 finding" in out


def test_json_says_the_same(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "zero.tar").write_bytes(b"")
    assert main(["validate", str(tmp_path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["samples"]) == (False, 3)
    assert [file["counts"] for file in document["files"]] == [{}, {"bad_tar": 1}]


def test_findings_shown_are_bounded(
    tmp_path: Path, make_sample: Any, write_tar: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = write_tar(tmp_path / "bad.tar", [(f"{i:016x}", {"jpg": b""}) for i in range(9)])
    assert main(["validate", str(bad), "--max-findings", "4"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert len([line for line in out if line.endswith("]")]) == 4
    assert f"{bad}: ... and 32 more" in out


def test_what_cannot_be_looked_at_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(tmp_path / "none.tar")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert main(["validate"]) == 2
    assert "at least one shard" in capsys.readouterr().err
