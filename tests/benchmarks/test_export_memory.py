"""The made parts are what an export reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pipeline.export_memory import export, make_parts


def test_every_made_row_is_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "parts").mkdir()
    make_parts(tmp_path / "parts", 0, 620)
    export(str(tmp_path / "parts"), str(tmp_path / "release"))
    assert capsys.readouterr().out.split()[-1] == "620"
